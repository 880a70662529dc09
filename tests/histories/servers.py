"""A Redis server of one's own, that can be killed and started again on the same files."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis

BINARY = shutil.which("redis-server")


class Server:
    """Listens on a socket in a folder with a short name, since a socket's path may have about 100 characters."""

    def __init__(self, folder: Path, fsync: str = "always") -> None:
        self.folder, self.fsync = folder, fsync
        self.sockets = tempfile.TemporaryDirectory(prefix="louder-")
        self.socket = f"{self.sockets.name}/redis"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": self.socket,
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "logfile": str(self.folder / "redis.log"),
        }
        command = [str(BINARY), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.process = subprocess.Popen(command)
        client = redis.Redis(unix_socket_path=self.socket)
        for _ in range(400):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.025)
        else:
            raise RuntimeError((self.folder / "redis.log").read_text())
        client.close()

    def empty(self) -> None:
        with redis.Redis(unix_socket_path=self.socket) as client:
            client.flushall()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        self.sockets.cleanup()
