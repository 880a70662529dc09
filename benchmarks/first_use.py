"""What a new user waits for: from a wheel and an empty environment to the first recommendation, and each answer after it.

    python -m build -w && python -m benchmarks.first_use dist/louder-*.whl --run runs/ml1m-hstu-large --table tables/ml-1m \\
        --json benchmarks/results/first_use.jsonl

The environment is a new one; pip takes its packages from the index that it is set up for, so how long the installing takes says
as much about the network as about Louder. The command line is timed as a whole, start of Python and imports included. `--run`
is one of `louder train`, whose answers are timed in the same environment.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from louder.results import Row, append_row, provenance


def seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - began


def steps(wheel: Path, torch: str, folder: Path) -> list[Row]:
    """Each of the first steps, once."""
    louder, pip = str(folder / "venv" / "bin" / "louder"), str(folder / "venv" / "bin" / "pip")
    venv.create(folder / "venv", with_pip=True)
    commands = {
        "pip install torch": [pip, "install", "-q", torch],
        "pip install louder": [pip, "install", "-q", str(wheel.absolute())],
        "louder demo": [louder, "demo"],
    }
    return [{"case": name, "seconds": [seconds(command, folder)]} for name, command in commands.items()]


def answers(run: Path, table: Path, repeats: int, folder: Path) -> list[Row]:
    louder = str(folder / "venv" / "bin" / "louder")
    asked = [louder, "recommend", str(run.absolute()), "--table", str(table.absolute())]
    everyone = [*asked, "--users", "all", "-k", "100", "-o"]
    one, all_of_them = [], []
    for turn in range(repeats + 1):  # the first reads files that no other has read
        one.append(seconds([*asked, "--user", "42"], folder))
        all_of_them.append(seconds([*everyone, f"lists-{turn}.parquet"], folder))
    return [
        {"case": "one louder recommend", "seconds": one[1:]},
        {"case": "lists of 100 for all users", "seconds": all_of_them[1:]},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True, help="the run's table, wherever it is")
    parser.add_argument("--torch", default="torch", help="what is installed first: torch==2.13.0+cpu and the like")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="louder-first-use-"))
    try:
        rows = steps(given.wheel, given.torch, folder) + answers(given.run, given.table, given.repeats, folder)
    finally:
        shutil.rmtree(folder)
    for row in rows:
        taken = row.pop("seconds")
        row |= {"bench": "first_use", "median_s": round(statistics.median(taken), 2), "runs": len(taken)}
        row |= {"min_s": round(min(taken), 2), "max_s": round(max(taken), 2)}
        print(f"{row['case']:30} {row['median_s']:8.2f} s", file=sys.stderr)
        if given.json:
            append_row(given.json, row | provenance())


if __name__ == "__main__":
    main()
