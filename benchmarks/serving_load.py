"""Load a service of this machine from another process, and write what was measured.

    python -m benchmarks.serving_load runs/ml1m-hstu-large --ranker runs/ml1m-rank-hstu --json benchmarks/results/serving.jsonl

Parts, all by default: latency, saturation, half, overload, reloads, redis, sizing, impatient, greedy, bombs, slow,
first, drain. Users ask again: `--active` of them, so that their histories can be kept. Latencies are measured from when a request was due, so a late answer counts as late, and a
slow server cannot slow its own load down.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from redis import Redis

from louder.results import Row, append_row, provenance

USERS = 6_040  # of ML-1M
AT = 1_046_454_590  # a fixed time after ML-1M's last event, so that the same question has the same answer


@dataclass
class Seen:
    """Answers of a load: status and seconds of each, from when it was due."""

    statuses: Counter = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.good.append(seconds)

    def quantile(self, share: float) -> float | None:
        ordered = sorted(self.good)
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None

    def take(self, other: "Seen") -> None:
        self.good += other.good
        self.statuses += other.statuses
        self.wrong += other.wrong

    def facts(self) -> Row:
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        times = {"p50_ms": self.quantile(0.5), "p99_ms": self.quantile(0.99)}
        return {"requests": self.statuses.total(), "statuses": statuses, **times}


class Connections:
    """A pool of kept HTTP/1.1 connections: as little work as can be, since the server needs the cores. One that was idle for
    `IDLE_S` is not used again: the server may be about to close it."""

    IDLE_S = 30.0

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.port, self.address = port, address  # of the service, and of the client
        self.free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.free:
            since, reader, writer = self.free.pop()
            if time.perf_counter() < since + self.IDLE_S:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))

    async def warm(self, body: "Body", users: list[int]) -> None:
        for user in users:
            await self.post(*body(user))

    def close(self) -> None:
        for _, _, writer in self.free:
            writer.close()
        self.free = []

    async def post(self, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
        reader, writer = await self.connection()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        try:
            writer.write(head.encode() + b"\r\n\r\n" + body)
            top = await reader.readuntil(b"\r\n\r\n")
            status = int(top[9:12])
            length = next(int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            text = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self.free.append((time.perf_counter(), reader, writer))
        return status, text


Body = Callable[[int], tuple[str, bytes]]


def recommend(user: int) -> tuple[str, bytes]:
    return "/v1/recommend", json.dumps({"user": user, "k": 20, "retrieve": 500, "at": AT}).encode()


def retrieve(user: int) -> tuple[str, bytes]:
    return "/v1/retrieve", json.dumps({"user": user, "k": 100, "at": AT}).encode()


BODIES: dict[str, Body] = {"retrieve top-100": retrieve, "recommend, 500 ranked": recommend}


def telling(events: int) -> Body:
    """So many events of one user in each request; every id is new"""
    number = itertools.count()

    def tell(user: int) -> tuple[str, bytes]:
        event = {"user": user, "item": 1193, "time": AT, "actions": []}
        new = [{**event, "id": f"{events}-{next(number)}"} for _ in range(events)]
        return "/v1/events", json.dumps({"events": new}).encode()

    return tell


async def closed(
    port: int,
    body: Body,
    users: list[int],
    clients: int,
    seconds: float,
    pause: float = 0.01,
    address: str = "127.0.0.1",
) -> tuple[Seen, float]:
    """So many clients that each ask again as soon as they are answered, or after a pause where they are refused; and
    answers a second."""
    seen, connections, end = Seen(), Connections(port, address), time.perf_counter() + seconds
    began = time.perf_counter()

    async def client(number: int) -> None:
        draw = random.Random(number)
        while (now := time.perf_counter()) < end:
            status, _ = await connections.post(*body(draw.choice(users)))
            seen.add(status, time.perf_counter() - now)
            if status == 429:
                await asyncio.sleep(pause)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return seen, len(seen.good) / (time.perf_counter() - began)


async def opened(
    port: int,
    body: Body,
    users: list[int],
    rate: float,
    seconds: float,
    check: Callable[[int, bytes], str | None] | None = None,
    each_second: Callable[[], None] | None = None,
) -> Seen:
    """Requests at random times, `rate` a second, whatever the server does."""
    seen, connections, draw = Seen(), Connections(port), random.Random(1)
    running: set[asyncio.Task[None]] = set()

    async def one(user: int, due: float) -> None:
        try:
            status, text = await connections.post(*body(user))
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.add(0, 0.0)
            seen.wrong.append(f"connection: {error!r}")
            return
        seen.add(status, time.perf_counter() - due)
        if check is not None and status == 200 and (wrong := check(user, text)):
            seen.wrong.append(wrong)

    began = due = time.perf_counter()
    second = 0
    while due < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(draw.choice(users), due))
        running.add(task)
        task.add_done_callback(running.discard)
        due += draw.expovariate(rate)
        if each_second is not None and due - began > second:
            second += 1
            each_second()
    await asyncio.gather(*running)
    return seen


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


STARTED: list[subprocess.Popen] = []


def started(words: list[str]) -> subprocess.Popen:
    """A process that does not outlive this one"""
    STARTED.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
    return STARTED[-1]


class Server:
    """`louder serve` in a process of its own."""

    def __init__(self, run: str, *options: str, store: str) -> None:
        self.port = free_port()
        words = ["serve", run, "--store", store, "--port", str(self.port), "--quiet", "--grace", "0", *options]
        self.process = started([sys.executable, "-m", "louder", *words])

    async def ready(self) -> "Server":
        for _ in range(1200):
            with contextlib.suppress(OSError):
                await asyncio.open_connection("127.0.0.1", self.port)
                await asyncio.to_thread(self.metrics)  # it listens before it has read anything
                return self
            if self.process.poll() is not None:
                sys.exit("louder serve did not start")
            await asyncio.sleep(0.1)
        sys.exit("louder serve was not ready within two minutes")

    def mib(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) >> 10

    def metrics(self) -> list[str]:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return answer.read().decode().splitlines()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Load:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.a = arguments
        self.folder = Path(tempfile.mkdtemp(prefix="louder-load-"))
        self.users = random.Random(0).sample(range(1, USERS + 1), arguments.active)
        self.options = ["--ranker", arguments.ranker] if arguments.ranker else []
        self.options += ["--table", arguments.table] if arguments.table else []
        self.options += ["--threads", str(arguments.threads)] if arguments.threads else []
        self.rate = 0.0

    def write(self, case: str, facts: Row, implementation: str = "louder") -> None:
        row: Row = {"bench": "serving", "case": case, "implementation": implementation}
        row |= {"active_users": len(self.users), "cache": self.a.cache, **facts, **provenance()}
        print(json.dumps(row), flush=True)
        if self.a.json:
            append_row(self.a.json, row)

    async def server(self, *cache: str, run: str | None = None, store: str = "") -> Server:
        given = [*self.options, *(cache or ("--cache", self.a.cache))]
        return await Server(run or self.a.run, *given, store=store or str(self.folder / "store")).ready()

    @contextlib.asynccontextmanager
    async def warm(self) -> AsyncIterator[Server]:
        """A service that has cached the history of every user."""
        server = await self.server()
        await Connections(server.port).warm(recommend, self.users)
        yield server
        server.stop()

    async def latency(self) -> None:
        server = await self.server()
        for name, body in BODIES.items():
            await Connections(server.port).warm(body, self.users)
            seen, _ = await closed(server.port, body, self.users, 1, self.a.seconds)
            self.write(f"{name}, cached, one client", seen.facts())
        server.stop()

    async def saturation(self) -> None:
        """The two servers take turns."""
        kept, never = await self.server(), await self.server("--no-cache", store=str(self.folder / "other"))
        for name, body in BODIES.items():
            await Connections(kept.port).warm(body, self.users)
            rates: dict[str, list[float]] = {"louder": [], "no-cache": []}
            answers = {"louder": Seen(), "no-cache": Seen()}
            for _ in range(3):
                for implementation, server in ("louder", kept), ("no-cache", never):
                    seen, rate = await closed(server.port, body, self.users, 16, self.a.seconds / 2)
                    rates[implementation].append(rate)
                    answers[implementation].take(seen)
            for implementation, found in rates.items():
                median = sorted(found)[1]
                facts = {"per_second": round(median, 1), "rounds": [round(x, 1) for x in found]}
                self.write(f"{name}, 16 clients", facts | answers[implementation].facts(), implementation)
            self.rate = sorted(rates["louder"])[1]
        kept.stop()
        never.stop()

    async def saturated(self) -> float:
        if not self.rate:
            async with self.warm() as server:
                _, self.rate = await closed(server.port, recommend, self.users, 16, self.a.seconds)
        return self.rate

    async def half(self) -> None:
        rate = await self.saturated() / 2
        async with self.warm() as server:
            memory = [server.mib()]  # each second, and of these each minute's is told

            def noted() -> None:
                memory.append(server.mib())

            seen = await opened(server.port, recommend, self.users, rate, self.a.long, each_second=noted)
            facts = {"per_second": round(rate, 1), "seconds": self.a.long, "mib": [*memory[::60], server.mib()]}
            self.write("recommend at half of saturation", facts | seen.facts())

    async def overload(self) -> None:
        rate = await self.saturated() * 3
        async with self.warm() as server:
            seen = await opened(server.port, recommend, self.users, rate, self.a.over)
            after, connections, quick = time.perf_counter(), Connections(server.port), 0
            while quick < 10 and time.perf_counter() < after + 30:
                began = time.perf_counter()
                status, _ = await connections.post(*recommend(self.users[quick]))
                quick = quick + 1 if status == 200 and time.perf_counter() - began < 0.1 else 0
                await asyncio.sleep(0.02)
            recovered = round(time.perf_counter() - after, 2)
            facts = {"per_second": round(rate, 1), "seconds": self.a.over, "recovered_s": recovered}
            self.write("recommend at three times saturation", facts | seen.facts())

    async def reloads(self) -> None:
        """Two checkpoints take turns behind a link; every answer must be of the model that it names."""
        from louder.cli.publish import publish
        from louder.histories import open_store
        from louder.inference.engine import Engine
        from louder.inference.request import Request

        link, other = self.folder / "live", self.folder / "other-run"
        shutil.copytree(self.a.run, other)
        changed(other)
        publish(Path(self.a.run), link)
        server = await self.server(run=str(link))
        users = self.users[:50]
        store = open_store(str(self.folder / "store"))
        truth: dict[tuple[str, int], list[float]] = {}
        for model in (Engine(run, self.a.ranker) for run in (self.a.run, other)):
            for user in users:
                request = Request(history=store.history(user), at=AT, k=20, user=user)
                truth[model.version, user] = model.recommend(request).scores.tolist()
        store.close()
        versions: Counter = Counter()

        def check(user: int, text: bytes) -> str | None:
            told = json.loads(text)
            versions[told["model"]] += 1
            expected = truth.get((told["model"], user))
            if expected is None:
                return f"unknown model {told['model']}"
            scores = [item["score"] for item in told["items"]]
            fits = len(scores) == len(expected) and all(abs(a - b) < 1e-4 for a, b in zip(scores, expected))
            return None if fits else f"user {user}: scores are not those of {told['model']}"

        turns = itertools.islice(itertools.cycle((other, Path(self.a.run))), self.a.reloads)

        def swap() -> None:
            if run := next(turns, None):
                publish(run, link)

        rate = await self.saturated() / 2
        with contextlib.redirect_stdout(None):
            seen = await opened(server.port, recommend, users, rate, self.a.reloads + 5, check, swap)
        facts = {"reloads": self.a.reloads, "per_second": round(rate, 1), "versions": dict(versions.most_common())}
        bad = len(seen.wrong) + seen.statuses.total() - seen.statuses[200] - seen.statuses[0]  # those are wrong already
        self.write("hot reloads", facts | seen.facts() | {"mixed_or_failed": bad, "first": seen.wrong[:3]})
        server.stop()

    async def redis(self) -> None:
        """Redis is gone for 30 s: requests with a history are answered, others get 503, and it recovers by itself."""
        start, port = redis(self.folder / "gone")
        running = start()
        await asyncio.sleep(1)
        server = await self.server(store=f"redis://127.0.0.1:{port}/0")
        connections = Connections(server.port)
        await connections.warm(recommend, self.users[:50])
        past = [{"item": item, "time": 978_000_000 + n, "actions": []} for n, item in enumerate((1193, 661, 914, 3408))]
        carried = json.dumps({"history": past, "k": 10, "at": AT}).encode()
        found: dict[str, Counter] = {}

        async def phase(name: str, seconds: float) -> float | None:
            began, first = time.perf_counter(), None
            found[name] = Counter()
            while time.perf_counter() < began + seconds:
                status, _ = await connections.post("/v1/recommend", carried)
                found[name][f"history {status}"] += 1
                status, _ = await connections.post(*recommend(self.users[0]))
                found[name][f"user {status}"] += 1
                if status == 200 and first is None:
                    first = time.perf_counter() - began
                await asyncio.sleep(0.1)
            return first

        await phase("before", 3)
        running.kill()
        running.wait()
        await phase("gone", self.a.gone)
        running = start()
        back = await phase("back", 10)
        facts = {name: dict(counts) for name, counts in found.items()}
        self.write("redis gone", {"seconds": self.a.gone, "back_after_s": back and round(back, 2), **facts})
        server.stop()
        running.kill()

    async def sizing(self) -> None:
        """What a process and a user take, and how fast events are stored."""
        start, port = redis(self.folder / "sized")
        running = start()
        await asyncio.sleep(1)
        for kind, store in ("files", str(self.folder / "sized-store")), ("redis", f"redis://127.0.0.1:{port}/0"):
            server = await self.server(store=store)
            facts: Row = {"mib": server.mib(), "users": USERS}
            if kind == "files":
                facts["store_bytes"] = sum(file.stat().st_blocks * 512 for file in Path(store).iterdir())
            else:
                facts["store_bytes"] = Redis(port=port).info("memory")["used_memory"]
            await Connections(server.port).warm(recommend, self.users)
            told = {line.split()[0]: float(line.split()[1]) for line in server.metrics() if line[0] != "#"}
            facts |= {"cached_histories": told["louder_cached_histories"], "cached_bytes": told["louder_cached_bytes"]}
            facts["mib_with_cache"] = server.mib()
            for events in 1, 100:
                seen, rate = await closed(server.port, telling(events), self.users, 8, self.a.seconds / 2)
                facts[f"events_per_second_by_{events}"] = round(rate * events)
                facts[f"p99_ms_by_{events}"] = seen.quantile(0.99)
            self.write(f"sizing, {kind}", facts)
            server.stop()
        running.kill()


def redis(folder: Path) -> tuple[Callable[[], subprocess.Popen], int]:
    """What starts a Redis that keeps its data in a folder, and its port"""
    folder.mkdir()
    port = free_port()
    words = ["redis-server", "--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    return lambda: started(words), port


def changed(run: Path) -> None:
    """Another model: the same run with its item vectors turned a little."""
    import torch
    from safetensors.torch import load_file, save_file

    from louder import checkpoint

    file = checkpoint.best(run) / "model.safetensors"
    weights = load_file(file)
    torch.manual_seed(0)
    table = "events.items.weight"
    weights[table] = weights[table] + 0.3 * weights[table].std() * torch.randn_like(weights[table])
    file.unlink()
    save_file(weights, file)


def main() -> None:
    from benchmarks.serving_abuse import bombs, drain, first, greedy, impatient, slow

    own = Load.latency, Load.saturation, Load.half, Load.overload, Load.reloads, Load.redis, Load.sizing
    parts = {part.__name__: part for part in (*own, impatient, greedy, bombs, slow, first, drain)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a retrieval run of ML-1M, or a joint one")
    parser.add_argument("--ranker")
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--table", help="in place of the run's")
    parser.add_argument("--active", type=int, default=500, help="users that ask")
    parser.add_argument("--cache", default="2GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--long", type=float, default=300.0, help="seconds at half of saturation")
    parser.add_argument("--over", type=float, default=60.0, help="seconds at three times saturation")
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--gone", type=float, default=30.0, help="seconds without Redis")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    load = Load(arguments)
    try:
        for name in arguments.parts:
            print(f"{name} …", file=sys.stderr, flush=True)
            asyncio.run(parts[name](load))
    finally:
        for process in STARTED:
            process.kill()
        shutil.rmtree(load.folder)


if __name__ == "__main__":
    main()
