"""Time and peak memory of making a table, beside the pandas way of the official preprocessing.

Each run is a process of its own: time includes starting Python and importing, memory is the peak of that process alone.
"""

import os
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from louder.errors import InputError
from louder.results import Row

LOUDER = """
import sys
from louder.__main__ import run
sys.argv = ["louder", "etl", sys.argv[1], "-o", sys.argv[2], "--overwrite"]
run()
"""

# What the official code does with ratings.dat: the python engine (for '::'), a sort of the whole table by time, lists
# of each user joined to texts, a CSV.
PANDAS = """
import sys
import pandas as pd
ratings = pd.read_csv(sys.argv[1], sep="::", names=["user_id", "movie_id", "rating", "unix_timestamp"], engine="python")
groups = ratings.sort_values(by=["unix_timestamp"]).groupby("user_id")
sequences = pd.DataFrame({
    "user_id": list(groups.groups.keys()),
    "item_ids": list(groups.movie_id.apply(list)),
    "ratings": list(groups.rating.apply(list)),
    "timestamps": list(groups.unix_timestamp.apply(list)),
})
for name in "item_ids", "ratings", "timestamps":
    sequences[name] = sequences[name].apply(lambda values: ",".join(str(value) for value in values))
sequences.to_csv(sys.argv[2], index=False, sep=",")
"""
Run = tuple[float, int, float]  # wall seconds, peak resident bytes, seconds of processor time of all threads


def run(script: str, *arguments: str) -> Run:
    """Run a Python process and measure it. Raises RuntimeError with its last words if it fails."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script, *arguments], stderr=subprocess.PIPE)
    assert child.stderr is not None
    with child.stderr:
        words = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(words.decode(errors="replace")[-2000:])
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime


def interleaved(candidates: dict[str, Callable[[], Run]], repeats: int) -> dict[str, dict[str, float]]:
    """A B A B ..., so that whatever else the machine does meets all candidates alike."""
    runs: dict[str, list[Run]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            runs[name].append(candidate())
    rows = {}
    for name, done in runs.items():
        seconds, peaks, processor = zip(*done)
        times = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
        times["cpu_s"] = statistics.median(processor)
        rounded = {of: round(value, 3) for of, value in times.items()}
        rows[name] = rounded | {"peak_bytes": max(peaks), "runs": repeats}
    return rows


def rows(source: Path | None, ratings: int, events: int, work: Path, repeats: int) -> Iterator[list[Row]]:
    """Of an archive as it comes and of a generated ratings.dat, beside pandas on the unpacked one; and of generated logs
    alone. 0 events leave one out."""
    cases = [(source.stem, source)] if source else []
    if ratings:
        (work / "ratings").mkdir()
        write_ratings(work / "ratings" / "ratings.dat", ratings)
        cases.append((f"generated ratings.dat, {ratings:,} events", work / "ratings"))
    for case, path in cases:
        louder = partial(run, LOUDER, str(path), str(work / "table"))
        pandas = partial(run, PANDAS, str(unpacked_ratings(path, work)), str(work / "sequences.csv"))
        found = interleaved({"louder": louder, "pandas": pandas}, repeats).items()
        yield [{"bench": "etl", "case": case, "implementation": name, **row} for name, row in found]
    for kind in ("parquet", "csv") if events else ():
        facts = {"bench": "etl", "case": f"generated {kind}, {events:,} events", "implementation": "louder"}
        yield [facts | generated(events, work, kind, repeats)]


def unpacked_ratings(source: Path, work: Path) -> Path:
    if source.is_dir() and (source / "ratings.dat").is_file():
        return source / "ratings.dat"
    if source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            if names := [name for name in archive.namelist() if name.endswith("ratings.dat")]:
                (work / "ratings.dat").write_bytes(archive.read(names[0]))
                return work / "ratings.dat"
    told = f"{source} has no ratings.dat, which the pandas way reads"
    raise InputError(f"{told}. Give a MovieLens-1M archive: --source ml-1m.zip.")


def generated(rows: int, work: Path, kind: str, repeats: int) -> dict[str, float]:
    """Louder on a generated log of `rows` events; kind is "parquet" or "csv"."""
    log = work / f"log.{kind}"
    write_log(log, rows)
    result = interleaved({"louder": lambda: run(LOUDER, str(log), str(work / "table"))}, repeats)["louder"]
    log.unlink()
    return result


def write_log(path: Path, rows: int, seed: int = 0, block: int = 1_000_000) -> None:
    """A log in random order: one user for 100 events, one item for 200 (few of them popular), three years."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    schema = pa.schema({**dict.fromkeys(("user_id", "item_id", "timestamp"), pa.int64()), "rating": pa.float32()})
    users, items = max(1, rows // 100), max(1, rows // 200)
    writer = pq.ParquetWriter(path, schema) if path.suffix == ".parquet" else pc.CSVWriter(path, schema)
    with writer:
        for start in range(0, rows, block):
            count = min(block, rows - start)
            columns = {
                "user_id": rng.integers(0, users, count),
                "item_id": (rng.random(count) ** 3 * items).astype(np.int64),
                "timestamp": 1_600_000_000 + rng.integers(0, 3 * 365 * 86_400, count),
                "rating": rng.integers(1, 6, count).astype(np.float32),
            }
            writer.write_table(pa.table(columns, schema=schema))


def write_ratings(path: Path, rows: int, seed: int = 0) -> None:
    """A ratings.dat as large as one likes, for machines without the archive."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(1, max(2, rows // 165), rows))
    item, rating = rng.integers(1, 3953, rows), rng.integers(1, 6, rows)
    moment = 956_703_932 + rng.integers(0, 89_000_000, rows)
    with path.open("w", encoding="ascii") as file:
        for start in range(0, rows, 1_000_000):
            block = slice(start, start + 1_000_000)
            lines = zip(*(column[block].tolist() for column in (user, item, rating, moment)))
            file.writelines(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in lines)
