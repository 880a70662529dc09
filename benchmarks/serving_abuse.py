"""Clients with bad habits, as parts of benchmarks.serving_load: impatient, greedy, slow; and a service that is asked to end."""

import asyncio
import contextlib
import json
import resource
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.serving_load import AT, Connections, Seen, closed, recommend

if TYPE_CHECKING:
    from benchmarks.serving_load import Load

CLIENTS = (4, 16, 64, 4)
LARGEST = 16_384  # items of a request
ITEMS = (1193, 661, 914, 3408, 2355, 1197, 1287, 2804)  # of ML-1M
OWN, OTHER = "127.0.0.1", "127.0.0.2"
ROUNDS = 4
IDLE = 10_000
SLOW = 200


async def impatient(load: "Load") -> None:
    """Clients that ask again at once, whatever they are told: 200s a second with more and more of them, and afterwards."""
    async with load.warm() as server:
        rates, statuses = [], []
        for clients in CLIENTS:
            seen, rate = await closed(server.port, recommend, load.users, clients, load.a.seconds, pause=0)
            rates.append(round(rate, 1))
            statuses.append({str(status): count for status, count in sorted(seen.statuses.items())})
        facts = {"clients": list(CLIENTS), "per_second": rates, "statuses": statuses}
        shares = {"of_best": round(rates[2] / max(rates[:2]), 2), "afterwards": round(rates[3] / rates[0], 2)}
        load.write("impatient clients", facts | shares)


def greedy_body(user: int) -> tuple[str, bytes]:
    items = [ITEMS[n % len(ITEMS)] for n in range(LARGEST)]
    return "/v1/rank", json.dumps({"user": user, "items": items, "at": AT}).encode()


async def greedy(load: "Load") -> None:
    """Four connections of one client, alone and beside others whose requests are as large as they may be, in turns."""
    kinds = ("alone", 0, OTHER), ("1", 1, OTHER), ("8", 8, OTHER), ("8 of the same address", 8, OWN)
    asked = {f"beside {name}" if count else name: Seen() for name, count, _ in kinds}
    large = {f"the {name}": Seen() for name, count, _ in kinds if count}
    seconds = load.a.seconds / ROUNDS
    async with load.warm() as server:
        for _ in range(ROUNDS):
            for name, count, address in kinds:
                (seen, _), (others, _) = await asyncio.gather(
                    closed(server.port, recommend, load.users, 4, seconds, address=OWN),
                    closed(server.port, greedy_body, load.users[:1], count, seconds, address=address),
                )
                asked[f"beside {name}" if count else name].take(seen)
                if count:
                    large[f"the {name}"].take(others)
    told = {
        name: {"per_second": round(len(seen.good) / load.a.seconds, 2), **seen.facts()}
        for name, seen in (asked | large).items()
    }
    load.write("greedy clients", {"items": LARGEST, "rounds": ROUNDS, **told})


async def slow(load: "Load") -> None:
    """Idle connections, and headers that come byte by byte or never end, while four clients ask."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with load.warm() as server:
        before, memory = (await closed(server.port, recommend, load.users, 4, load.a.seconds))[1], server.mib()
        idle = []
        for _ in range(IDLE // 100):
            idle += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)))
        dripping = [asyncio.create_task(seconds_until_closed(server.port)) for _ in range(SLOW)]
        endless = asyncio.create_task(bytes_until_closed(server.port))
        seen, rate = await closed(server.port, recommend, load.users, 4, max(load.a.seconds, 12.0))
        facts = {"idle": len(idle), "per_second": [round(before, 1), round(rate, 1)], **seen.facts()}
        facts |= {"mib": [memory, server.mib()], "slow_closed_s": max(await asyncio.gather(*dripping))}
        load.write("slow clients", {**facts, "slow": SLOW, "endless_headers_bytes": await endless})
        for _, writer in idle:
            writer.close()


async def seconds_until_closed(port: int) -> float:
    """Of a connection that sends a byte of its headers each second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began, closing = time.perf_counter(), asyncio.create_task(until_closed(reader))
    writer.write(b"GET /healthz HTTP/1.1\r\nx: ")
    while not (await asyncio.wait({closing}, timeout=1))[0]:
        writer.write(b"y")
    writer.close()
    return round(time.perf_counter() - began, 1)


async def bytes_until_closed(port: int) -> int:
    """Of headers that never end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent, closing = 0, asyncio.create_task(until_closed(reader))
    with contextlib.suppress(OSError):
        writer.write(b"GET /healthz HTTP/1.1\r\nx: ")
        while sent < 100 << 20 and not closing.done():
            writer.write(b"y" * 4096)
            sent += 4096
            await writer.drain()
            await asyncio.sleep(0.001)
    writer.close()
    return sent


async def until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        await reader.read()


async def drain(load: "Load") -> None:
    """SIGTERM while four clients ask: how many were not answered before the service stopped to listen."""
    server = await load.server("--cache", load.a.cache, "--grace", "3")
    await Connections(server.port).warm(recommend, load.users[:50])
    ready, seen, began = Connections(server.port), Seen(), time.perf_counter()
    times: dict[str, float] = {}

    async def client(user: int) -> None:
        connections = Connections(server.port)
        while "ended" not in times:
            try:
                status, _ = await connections.post(*recommend(user))
                seen.add(status, 0.0)
                if status == 200:
                    connections.close()  # as a client that heeds `connection: close`
            except (OSError, asyncio.IncompleteReadError):
                times.setdefault("ended", time.perf_counter() - began)

    async def watch() -> None:
        await asyncio.sleep(1)
        server.process.terminate()
        times["sigterm"] = time.perf_counter() - began
        while "ready 503" not in times and "ended" not in times:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if (await ready.post("/readyz", b"", method="GET"))[0] == 503:
                    times["ready 503"] = time.perf_counter() - began
                ready.close()
            await asyncio.sleep(0.02)

    await asyncio.gather(*(client(user) for user in load.users[:4]), watch())
    code = await asyncio.to_thread(server.process.wait, 60)
    told = {name: round(at - times["sigterm"], 2) for name, at in times.items() if name != "sigterm"}
    load.write("SIGTERM under load", {"after_s": told, "exit": code, "statuses": seen.facts()["statuses"]})


def bomb(kind: str, user: int) -> tuple[str, bytes]:
    """A request that is as much work to filter as it may be, or more than that."""
    asked: dict[str, object] = {"user": user, "k": 10, "at": AT}
    if kind == "5,000 values":
        asked["where"] = {"genres": [f"value {n}" for n in range(5_000)]}
    elif kind == "500 values":
        asked["where"] = {"genres": ["Drama", *(f"value {n}" for n in range(499))]}
    else:
        asked["deny"] = list(range(LARGEST))
    return "/v1/recommend", json.dumps(asked).encode()


async def bombs(load: "Load") -> None:
    """Four connections of one client, alone and beside another one that filters by as much as it can."""
    async with load.warm() as server:
        seen, rate = await closed(server.port, recommend, load.users, 4, load.a.seconds)
        facts: dict[str, object] = {"alone": {"per_second": round(rate, 1), **seen.facts()}}
        for kind in "5,000 values", "500 values", "16,384 denied":
            asking = closed(server.port, partial(bomb, kind), [1], 1, load.a.seconds, address="127.0.0.2")
            (seen, rate), (filtered, _) = await asyncio.gather(
                closed(server.port, recommend, load.users, 4, load.a.seconds), asking
            )
            facts[kind] = {"per_second": round(rate, 1), **seen.facts(), "filtered": filtered.facts()}
        load.write("filter bombs", facts)


async def first(load: "Load") -> None:
    """The first and the second answer of each kind, of a service that has just opened its port."""
    server = await load.server()
    connections, times = Connections(server.port), {}
    user, told = load.users[0], {"k": 10, "at": AT}
    kinds: dict[str, tuple[str, dict[str, object]]] = {
        "recommend": ("/v1/recommend", {"user": user, **told}),
        "explain": ("/v1/recommend", {"user": user, **told, "explain": True}),
        "unknown user": ("/v1/recommend", {"user": 10**9, **told}),
        "retrieve": ("/v1/retrieve", {"user": user, **told}),
        "similar": ("/v1/similar", {"item": ITEMS[0], "k": 10}),
        "filtered": ("/v1/recommend", {"user": user, **told, "where": {"genres": ["Drama"]}, "diversity": 0.3}),
    }
    for kind, (path, asked) in kinds.items():
        both = []
        for _ in range(2):
            began = time.perf_counter()
            status, _ = await connections.post(path, json.dumps(asked).encode())
            both.append(round(1000 * (time.perf_counter() - began), 1))
            assert status == 200, (kind, status)
        times[kind] = both
    load.write("first uses", {"ms": times})
    server.stop()
