"""Write the tables of README.md and docs/results.md from the rows in results/, so that no figure is typed by hand.

python experiments/tables.py          # rewrite what stands between <!-- rows: NAME --> and <!-- end -->
python experiments/tables.py --check  # exit with 1 if a page differs from the rows
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from louder.reports.published import DATASETS, README
from louder.results import read_rows

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "README.md", *(ROOT / "docs" / name for name in ("index.md", "results.md", "benchmarks.md"))
RESULTS = ROOT / "experiments" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"
METRICS = "hr@10", "ndcg@10", "hr@50", "hr@200"

NAMES = {
    "ml1m-sasrec": "SASRec",
    "ml1m-hstu": "HSTU",
    "ml1m-hstu-large": "HSTU-large",
    "ml1m-transformer": "Transformer",
}


def ml1m(protocol: str) -> list[str]:
    found = [row for row in read_rows(RESULTS / "ml1m.jsonl") if row["protocol"] == protocol]
    if not found:
        return ["Not measured yet."]
    lines = ["| model | HR@10 | NDCG@10 | HR@50 | HR@200 | epoch | seed |", "|---|---|---|---|---|---|---|"]
    popularity = found[0]["popularity"]
    lines.append(f"| popularity | {numbers([popularity[name] for name in METRICS])} | | |")
    for experiment, name in NAMES.items():
        rows = sorted((row for row in found if row["experiment"] == experiment), key=lambda row: row["seed"])
        for row in rows:
            values = numbers([row["metrics"][metric] for metric in METRICS])
            lines.append(f"| {name} | {values} | {row['epoch'] + 1} | {row['seed']} |")
        if protocol == "official" and rows:
            lines += published(name)
    return lines


def published(model: str) -> list[str]:
    """The line of the official README for a model on ML-1M."""
    return [
        f"| {model}, as published | {numbers([row.metrics[name] for name in METRICS])} | | |"
        for row in DATASETS["ml1m"].rows
        if row.model == model and row.source == README
    ]


def etl() -> list[str]:
    lines = ["| log | implementation | median s | peak MiB | commit |", "|---|---|---|---|---|"]
    for row in read_rows(BENCHMARKS / "etl.jsonl"):
        peak = f"{row['peak_bytes'] / 2**20:,.0f}"
        lines.append(f"| {row['case']} | {row['implementation']} | {row['median_s']:.2f} | {peak} | {row['commit']} |")
    return lines


def demo() -> list[str]:
    lines = [
        "| seconds in all | HR@10 | NDCG@10 | popularity HR@10 | popularity NDCG@10 | machine |",
        "|---|---|---|---|---|---|",
    ]
    for row in read_rows(BENCHMARKS / "demo.jsonl"):
        values = numbers([row[name] for name in ("hr@10", "ndcg@10", "popularity_hr@10", "popularity_ndcg@10")])
        lines.append(f"| {row['seconds']:.0f} | {values} | {row['machine']} |")
    return lines


def speed(bench: str) -> list[str]:
    """A line for each row: median, how many times that of the case's reference, and memory."""
    path = BENCHMARKS / f"{bench}.jsonl"
    if not path.exists():
        return ["Not measured yet."]
    rows = [row for row in read_rows(path) if "median_s" in row]
    medians = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    lines = ["| case | implementation | median ms | × | peak MiB | commit |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = row["median_s"] / medians[row["case"], row["reference"]]
        peak = f"{row['peak_bytes'] / 2**20:,.0f}"
        name = row["implementation"]
        lines.append(
            f"| {row['case']} | {name} | {row['median_s'] * 1e3:,.0f} | {ratio:.2f} | {peak} | {row['commit']} |"
        )
    return lines


def numbers(values: Any) -> str:
    return " | ".join(f"{value:.4f}".lstrip("0") for value in values)


TABLES: dict[str, Callable[[], list[str]]] = {
    "ml1m validated": lambda: ml1m("validated"),
    "ml1m official": lambda: ml1m("official"),
    "etl": etl,
    "demo": demo,
    **{bench: partial(speed, bench) for bench in ("attention", "layer", "loss", "step", "encoder")},
}


def rewritten(text: str) -> str:
    def table(match: re.Match[str]) -> str:
        return f"<!-- rows: {match[1]} -->\n" + "\n".join(TABLES[match[1]]()) + "\n<!-- end -->"

    return re.sub(r"<!-- rows: ([^>]+?) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            stale.append(page)
            if "--check" not in sys.argv:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'differs from the rows' if '--check' in sys.argv else 'rewritten'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
