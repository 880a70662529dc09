"""Service, trainer and crowd by one clock, which the crowd moves: a day passes in minutes."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from uvicorn import Config, Server

from louder.data.world import HOUR, World, WorldSettings
from louder.errors import InputError
from louder.evaluation.ab import compare_variants
from louder.evaluation.ab_log import read_test
from louder.inference.run import Run
from louder.live.crowd import Crowd
from louder.live.page import WithPage
from louder.live.prepare import prepare
from louder.online import folder as stream_folder
from louder.online.config import StreamConfig
from louder.online.folder import ROWS
from louder.results import Row, read_rows
from louder.serving.client import Client
from louder.serving.connections import Connection
from louder.serving.routes import create_app
from louder.serving.service import Service, Settings, open_service
from louder.serving.variants import CONTROL

STREAMING = "streaming"
TICK_S = 300  # of the world, in which the crowd asks together
WINDOWS_BEHIND = 3  # of the trainer, before the crowd waits for it
COMPARED_EVERY = 2  # hours of the world
PATIENCE_S = 120.0  # that a trainer which does not come on is waited for


class Demo:
    """What a live demo holds while it runs. `now` is the clock of all of it: seconds in the world."""

    def __init__(self, world: World, folder: Path, hours: int, window_s: int, items: int) -> None:
        self.world, self.folder, self.hours, self.window_s, self.items = world, folder, hours, window_s, items
        self.start, self.end, self.now = world.now, world.now + hours * HOUR, float(world.now)
        self.crowd: Crowd | None = None
        self.compared: Row | None = None
        self.windows: list[Row] = []
        self.service: Service | None = None
        self.done = False

    def clock(self) -> float:
        return self.now

    def state(self) -> Row:
        """What the page shows."""
        hours = int((self.now - self.start) // HOUR) + 1
        means = (
            {}
            if self.crowd is None
            else {who: self.crowd.tally.means(who, hours) for who in ("oracle", STREAMING, CONTROL, "popularity")}
        )
        row: Row = {"now": int(self.now), "start": self.start, "end": self.end, "reward": means, "done": self.done}
        if self.crowd is not None:
            row |= {"requests": self.crowd.requests, "clicks": self.crowd.clicks, "failed": self.crowd.failed}
            row |= {
                "items": len(self.world.topic),
                "users": self.world.settings.users,
                "lately": list(self.crowd.lately),
            }
            row["launched"] = int((self.world.launched > self.start).sum())
        if self.service is not None:
            live = self.service.models_of[STREAMING]
            row["model"] = {"version": live.live.version, "taken": live.swaps, "refused": live.refused}
        if self.windows:
            last = self.windows[-1]
            row["trained"] = {
                "windows": len(self.windows),
                "upto": last["upto"],
                "events": sum(x["events"] for x in self.windows),
            }
            row["foretold"] = [x.get("next_item", {}).get("hr@10") for x in self.windows]
        if self.compared is not None:
            (variant,) = self.compared["variants"][1:]
            look = variant["against_control"]["per_request"]["reward"]
            base = self.compared["variants"][0]["per_request"]["reward"]["mean"]
            always = variant["always"]
            row["test"] = {name: variant[name] for name in ("verdict", "p", "decided_at")} | {
                "lift": look["lift"],
                "low": always and base and always["low"] / base,
                "high": always and base and always["high"] / base,
                "users": [x["users"] for x in self.compared["variants"]],
                "refused": self.compared["refused"],
            }
        return row

    def compare(self) -> None:
        try:
            self.compared = compare_variants(read_test(str(self.folder / "events")), {"click": 1.0})
        except InputError:  # nothing came of an answer yet
            self.compared = None

    def look_at_trainer(self) -> None:
        file = self.folder / "stream" / ROWS
        self.windows = read_rows(file) if file.is_file() else []

    def behind(self) -> int:
        """Windows of which all is in the log, and that are not learnt yet."""
        self.look_at_trainer()
        upto = self.windows[-1]["upto"] if self.windows else self.start
        return int((self.now - upto) // self.window_s)


def live(
    folder: Path,
    settings: WorldSettings,
    *,
    hours: int,
    hour_s: float,
    window_s: int,
    port: int,
    ready: Callable[[str], None],
    tell: Callable[[str], None],
    counting: Callable[[int], None] = lambda n: None,
) -> Row:
    """Let a world go on for some hours, each in at least `hour_s` seconds; what the page shows at the end.

    `ready` is called with the address of the page, `tell` with a line for each hour. Raises InputError.
    """
    folder.mkdir(parents=True)
    world = prepare(settings, hours, folder, counting)
    stream, frozen = folder / "stream", folder / "frozen"
    stream_folder.start(frozen, stream, StreamConfig(window_s=window_s), [], None)
    demo = Demo(world, folder, hours, window_s, len(Run.open(frozen).item_ids))
    service = open_service(
        Settings(
            run=frozen,
            store=str(folder / "histories"),
            events=str(folder / "events"),
            explore=8,
            variants=(f"{STREAMING}={stream}:0.5",),
            salt="live",
            log=False,
            max_queue_delay_s=10.0,
        ),
        demo.clock,
    )
    demo.service = service
    with (
        served(service, demo, port) as address,
        training(folder, window_s) as alive,
        Client(address, timeout=60) as client,
    ):
        demo.crowd = Crowd(world, client, demo.items)
        ready(f"{address}/live")
        for hour in range(1, hours + 1):
            began = time.monotonic()
            for _ in range(HOUR // TICK_S):
                until = world.now + TICK_S
                demo.now = float(until)
                demo.crowd.step(until)
            keep_pace(demo, alive, began + hour_s)
            if hour % COMPARED_EVERY == 0:
                demo.compare()
            tell(line_of(demo, hour))
        demo.compare()
        demo.done = True
        time.sleep(min(2.0, hour_s))  # the page asks once a second
    return demo.state()


def keep_pace(demo: Demo, alive: Callable[[], None], until: float) -> None:
    """Wait for the end of the hour, and for the trainer where it is behind."""
    patience = time.monotonic() + PATIENCE_S
    while time.monotonic() < until or (demo.behind() > WINDOWS_BEHIND and time.monotonic() < patience):
        alive()
        time.sleep(0.1)
    demo.look_at_trainer()


def line_of(demo: Demo, hour: int) -> str:
    assert demo.crowd is not None
    means = {who: demo.crowd.tally.means(who, hour)[-1] or 0.0 for who in (STREAMING, CONTROL, "popularity", "oracle")}
    shown = "  ".join(f"{'frozen' if who == CONTROL else who} {mean:.2f}" for who, mean in means.items())
    return f"hour {hour:3}  clicks a list: {shown}  windows learnt {len(demo.windows)}"


@contextmanager
def served(service: Service, demo: Demo, port: int) -> Iterator[str]:
    """The service in a thread, with the page."""
    try:
        own = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise InputError(
            f"Nothing can listen at port {port} ({error.strerror}). Choose another: --port {port + 1}."
        ) from error
    with own:
        app = WithPage(create_app(service), demo.state)
        server = Server(Config(app, log_level="warning", access_log=False, http=Connection, ws="none"))
        thread = threading.Thread(target=server.run, args=([own],), name="service", daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://localhost:{own.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)


@contextmanager
def training(folder: Path, window_s: int) -> Iterator[Callable[[], None]]:
    """`louder stream` on the log, in a process of its own; what is given raises InputError if it has ended."""
    command = [sys.executable, "-m", "louder", "stream", str(folder / "frozen"), "--source", str(folder / "events")]
    command += ["-o", str(folder / "stream"), "--window", f"{window_s}s"]
    log = folder / "stream.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def alive() -> None:
        if process.poll() is not None:
            raise InputError(f"The trainer has ended (exit {process.returncode}). What it said is in {log}.")

    try:
        yield alive
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
