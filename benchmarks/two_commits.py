"""Two checkouts of Louder, timed in turns by one harness that belongs to neither: did a change cost speed?

    git worktree add ../before COMMIT
    python benchmarks/two_commits.py ../before . --table tables/ml-1m --run runs/ml1m-hstu --ranker runs/ml1m-rank-hstu \\
        --json benchmarks/results/two_commits.jsonl

Each checkout has processes of its own, which stay; work goes to one of them at a time, A B B A A B …, so that whatever
else the machine does befalls both. A row holds the medians, and the ratio after / before of each pair's times with its
quartiles. The runs may be of the older checkout: the newer one has to read them.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.request import urlopen

T = TypeVar("T")
CASES = {
    "attention": "forward and backward, 4 histories of 1,024, 2 heads of 64, both biases",
    "step hstu": "a training step of 128 users, ml1m:hstu",
    "step hstu_large": "a training step of 128 users, ml1m:hstu_large",
    "mfalcon": "1,024 candidates after a cached history of 1,000 events",
}
ROUTES = {"retrieve": ("/v1/retrieve", {"k": 10}), "recommend": ("/v1/recommend", {"k": 10, "retrieve": 500})}
CACHES: dict[str, list[str]] = {
    "warm": [],
    "cold": ["--no-cache"],
}  # histories are cached, or computed with each answer
AT = 1_046_454_590  # after ML-1M's last event, so that the same request has the same answer
JSON = {"content-type": "application/json"}
USERS = 40  # who ask in turns, so that their histories are cached


# --- in a process of one checkout, whose names are not those of the other -------------------------------------------------


def worker(table: str) -> None:
    """Reads a case's name, answers with the seconds that one run took; the first reading of a name warms up."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    runs: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name = line.strip()
        kind, _, recipe = name.partition(" ")
        if name not in runs:
            runs[name] = (
                step(f"ml1m:{recipe}", table) if recipe else {"attention": attention, "mfalcon": mfalcon}[kind]()
            )
            for _ in range(3):
                runs[name]()
        began = time.perf_counter()
        runs[name]()
        print(time.perf_counter() - began, flush=True)


def attention() -> Callable[[], None]:
    import torch

    from louder.ops.hstu_attention import hstu_attention

    users, n, heads, width = 4, 1024, 2, 64
    torch.manual_seed(0)
    q, k, v = (torch.randn(users * n, heads, width, requires_grad=True) for _ in range(3))
    position_bias, time_bias = (torch.randn(rows, requires_grad=True) for rows in (n, 129))
    offsets = torch.arange(0, users * n + 1, n)
    times = torch.randint(0, 10_000, (users, n)).cumsum(1).flatten()
    biases: dict[str, Any] = {"scale": 1 / n, "position_bias": position_bias, "time_bias": time_bias}
    try:
        from louder.ops.layout import Layout

        layout = Layout(offsets, query_times=times, key_times=times)
        first: tuple = (q, k, v, layout)
        given = biases
    except ImportError:
        first, given = (q, k, v, offsets), biases | {"query_times": times, "key_times": times}
    grad = torch.randn(users * n, heads, width)

    def run() -> None:
        torch.autograd.grad(hstu_attention(*first, **given), (q, k, v, position_bias, time_bias), grad)

    return run


def step(recipe: str, table: str) -> Callable[[], None]:
    from dataclasses import replace
    from itertools import cycle, islice

    import torch

    from louder import recipes

    try:
        from louder.training.optimizers import make_optimizers, update
    except ImportError:  # an earlier commit
        from louder.training.loop import make_optimizers, update  # type: ignore[attr-defined, no-redef]
    from louder.training.tasks import open_task

    config = recipes.load(recipe)
    task: Any = open_task(replace(config, data=replace(config.data, table=table)))
    torch.manual_seed(0)
    model = task.build().train()
    optimizers, batches = make_optimizers(model, config.training), cycle(list(islice(task.loader.batches(), 4)))
    device = torch.device("cpu")

    def run() -> None:
        for _ in range(4):  # the four differ
            update(model, optimizers, task.loss(model, next(batches), device), config.training.clip_norm)

    return run


def mfalcon() -> Callable[[], None]:
    import torch

    from louder.batch import SequenceBatch
    from louder.inference.mfalcon import MFalcon
    from louder.models import HSTUConfig, RankingConfig, RankingModel, Vocabulary, build_ranker

    torch.manual_seed(0)
    n, items = 1000, 4000
    config = HSTUConfig(layers=4, heads=2, width=64, qk_width=32, v_width=32, max_len=2 * n + 1)
    model = build_ranker(config, RankingConfig(), Vocabulary(items=items, actions=2), []).eval()
    assert isinstance(model, RankingModel)
    times = torch.arange(n) * 1000
    history = SequenceBatch(
        ids=torch.randint(0, items, (n,)),
        timestamps=times,
        query_timestamps=times + 1000,
        offsets=torch.tensor([0, n]),
        actions=torch.randint(0, 4, (n,)),
    )
    engine, candidates = MFalcon(model), torch.randint(0, items, (1024,))

    def run() -> None:
        engine.score(history, candidates, 1_000_000, key="user")

    return run


# --- the two in turns -------------------------------------------------------------------------------------------------


def environment(tree: Path, threads: int) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": str(threads)}


def start_worker(tree: Path, table: Path, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(table.resolve())]
    own, pipe = environment(tree, threads), subprocess.PIPE
    return subprocess.Popen(command, cwd=tree, env=own, stdin=pipe, stdout=pipe, text=True)


def seconds_of(process: subprocess.Popen[str], name: str) -> float:
    assert process.stdin and process.stdout
    print(name, file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"The checkout's process ended at {name!r}; what it said is above.")
    return float(line)


def in_turns(pairs: int, *runs: Callable[[], T]) -> list[list[T]]:
    """A B B A A B …: whoever comes second comes first the next time."""
    found: list[list[T]] = [[] for _ in runs]
    turns = list(zip(found, runs))
    for number in range(pairs):
        for own, run in turns[:: -1 if number % 2 else 1]:
            own.append(run())
    return found


def told(name: str, what: str, unit: str, a: list[float], b: list[float]) -> dict[str, Any]:
    ratios = sorted(y / x for x, y in zip(a, b))
    low, middle, high = statistics.quantiles(ratios, n=4)
    row: dict[str, Any] = {"case": name, "what": what, "pairs": len(a), "unit": unit}
    row |= {"before": round(statistics.median(a), 6), "after": round(statistics.median(b), 6)}
    row |= {"ratio": round(middle, 4), "ratio_quartiles": [round(low, 4), round(high, 4)]}
    ratio = f"× {middle:.3f} ({low:.3f} to {high:.3f})"
    print(f"{name:24} before {row['before']:>12} after {row['after']:>12} {unit:14} {ratio}")
    return row


@contextmanager
def service(tree: Path, runs: list[str], table: Path, threads: int, log: IO[str]) -> Iterator[tuple[int, int]]:
    """`louder serve` with these arguments -> its port and its process"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(log.name + ".store")
    command = [sys.executable, "-m", "louder", "serve", *runs, "--table", str(table.resolve()), "--port", str(port)]
    command += ["--store", str(folder.resolve()), "--threads", str(threads), "--max-queue-delay", "600000", "--quiet"]
    process = subprocess.Popen(command, cwd=tree, env=environment(tree, threads), stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
                break
            except OSError:  # a URLError is one
                time.sleep(0.5)
        else:
            raise SystemExit(f"The service of {tree} does not answer; see {log.name}.")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked(
    service: tuple[int, int], route: str, seconds: float, clients: int = 4, users: int = USERS
) -> tuple[float, float]:
    """Milliseconds of each answer, by the clock and of the service's processor time: `clients` ask for so long, each again
    when it is answered. They share the cores with the service, so the second says more of its work."""
    (port, pid), began, clock = service, processor_s(service[1]), time.perf_counter()
    path, body = ROUTES[route]

    def client(number: int) -> int:
        connection, answered = HTTPConnection("127.0.0.1", port, timeout=600), 0
        user, until = number, time.perf_counter() + seconds
        while time.perf_counter() < until:
            user = user % users + 1
            connection.request("POST", path, json.dumps({"user": user, "at": AT} | body), JSON)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"{path} was answered {response.status}.")
            answered += 1
        return answered

    with ThreadPoolExecutor(clients) as pool:
        answers = sum(pool.map(client, range(clients)))
    return 1000 * (time.perf_counter() - clock) / answers, 1000 * (processor_s(pid) - began) / answers


def served(given: argparse.Namespace, trees: tuple[Path, Path], cache: str, options: list[str]) -> list[dict[str, Any]]:
    """Both services at once, asked in turns."""
    runs = [str(given.run.resolve()), *(["--ranker", str(given.ranker.resolve())] if given.ranker else []), *options]
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = []
        for place, tree in enumerate(trees):
            log = stack.enter_context(open(folder / f"{place}.log", "w", encoding="utf-8"))
            services.append(stack.enter_context(service(tree, runs, given.table, given.threads, log)))
        for route in ROUTES:
            for own in services:
                asked(own, route, 3)
            answers = in_turns(given.pairs, *(partial(asked, own, route, given.seconds) for own in services))
            what = f"4 clients without a pause, {USERS} users, histories {'' if cache == 'warm' else 'not '}cached"
            for place, unit in enumerate(("ms/answer", "cpu ms/answer")):
                found = [[x[place] for x in own] for own in answers]
                rows.append(told(f"service {route}, {cache}", what, unit, *found))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="time a service of it, too")
    parser.add_argument("--ranker", type=Path, help="beside it")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a service is asked at a time")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--json", type=Path, help="a JSON-lines file to add the rows to")
    given = parser.parse_args()
    trees, rows = (given.before, given.after), []
    with ExitStack() as stack:
        workers = [start_worker(tree, given.table, given.threads) for tree in trees]
        for process in workers:
            stack.callback(process.kill)
        for name in given.cases:
            times = in_turns(given.pairs + 1, *(partial(seconds_of, process, name) for process in workers))
            rows.append(told(name, CASES[name], "s", *(own[1:] for own in times)))
    if given.run:
        for cache, options in CACHES.items():
            rows += served(given, trees, cache, options)
    if given.json:
        from louder.results import append_row, provenance

        words = ["git", "rev-parse", "--short=10", "HEAD"]
        before, after = (subprocess.check_output(words, cwd=tree, text=True).strip() for tree in trees)
        for row in rows:
            found = {"bench": "two_commits", "commit_before": before, "commit_after": after}
            append_row(given.json, found | row | {"threads": given.threads} | provenance())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main()
