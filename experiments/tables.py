"""Write the tables of README.md and docs/ from the rows in results/, so that no figure is typed by hand.

python -m experiments.tables          # rewrite what stands between <!-- rows: NAME --> and <!-- end -->
python -m experiments.tables --check  # exit with 1 if a page differs from the rows
"""

import itertools
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from louder.reports.published import DATASETS, PAPER
from louder.results import read_rows

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RESULTS = ROOT / "experiments" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"
SPEED = "attention", "layer", "loss", "step", "encoder"
NOTHING = ["Not measured yet."]
METRICS = "hr@10", "ndcg@10", "hr@50", "hr@200"

NAMES = {
    "ml1m-sasrec": "SASRec",
    "ml1m-hstu": "HSTU",
    "ml1m-hstu-large": "HSTU-large",
    "ml1m-hstu-large-mol": "HSTU-large, MoL",
    "ml1m-transformer": "Transformer",
}
RANKERS = {
    "hstu": "HSTU",
    "joint": "HSTU, joint with the next engagement",
    "hstu-interleaved": "HSTU, interleaved tokens",
    "hstu-likes": "HSTU, likes alone, 4 passes",
    "hstu-likes-interleaved": "the same, interleaved tokens",
    "transformer": "Transformer",
    "dlrm": "DLRM",
    "wukong": "Wukong",
}
SYNTHETIC = {
    "truth": "the true probabilities",
    "hstu": "HSTU",
    "softmax": "HSTU, softmax attention",
    "dlrm": "DLRM",
    "recent": "HSTU, the latest 8 to 16 events alone",
    "without-series": "HSTU without the mood",
}
LOGS = {"kuairand": "KuaiRand-Pure", "ml1m": "MovieLens-1M"}


def ml1m(protocol: str) -> list[str]:
    found = [row for row in read_rows(RESULTS / "ml1m.jsonl") if row["protocol"] == protocol]
    if not found:
        return NOTHING
    lines = ["| model | HR@10 | NDCG@10 | HR@50 | HR@200 | epoch | seed |", "|---|---|---|---|---|---|---|"]
    popularity = found[0]["popularity"]
    lines.append(f"| popularity | {numbers([popularity[name] for name in METRICS])} | | |")
    for experiment, name in NAMES.items():
        rows = sorted((row for row in found if row["experiment"] == experiment), key=lambda row: row["seed"])
        for row in rows:
            values = numbers([row["metrics"][metric] for metric in METRICS])
            lines.append(f"| {name} | {values} | {row['epoch'] + 1} | {row['seed']} |")
        if protocol == "official" and rows:
            lines += published(name, empty=2)
    return lines


def ml1m_means(protocol: str) -> list[str]:
    """Mean and standard deviation over the seeds, beside what was published."""
    found = [row for row in rows_of(RESULTS / "ml1m.jsonl") if row["protocol"] == protocol]
    lines = table_head(["model", "HR@10", "NDCG@10", "HR@50", "HR@200", "seeds"])
    lines.append(f"| popularity | {numbers([found[0]['popularity'][name] for name in METRICS])} | |")
    for experiment, name in NAMES.items():
        rows = [row["metrics"] for row in found if row["experiment"] == experiment]
        if rows:
            values = [mean_and_deviation([row[metric] for row in rows]) for metric in METRICS]
            lines.append(table_line([name, *values, str(len(rows))]))
        if protocol == "official" and rows:
            lines += published(name, empty=1)
    return lines


def published(model: str, empty: int) -> list[str]:
    """The line of its authors' README for a model on ML-1M, with so many empty cells at its end."""
    return [
        f"| {model}, as published | {numbers([row.metrics[name] for name in METRICS])} |" + " |" * empty
        for row in DATASETS["ml1m"].rows
        if row.model == model and row.source != PAPER
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


def peak(row: Row) -> str:
    return f"{row['peak_bytes'] / 2**20:,.0f}"


def amount(name: str) -> Callable[[Row], str]:
    """A field as a number; "" where a row lacks it."""
    return lambda row: f"{row[name]:,.0f}" if name in row else ""


COLUMNS: dict[str, dict[str, Callable[[Row], str]]] = {
    "generative": {"exposures/s": amount("labels_per_s")},
    "mfalcon": {
        "candidates/s": amount("candidates_per_s"),
        "FLOPs per candidate": amount("flops_per_candidate"),
        "error": lambda row: f"{row['max_error']:.1g}" if "max_error" in row else "",
    },
}


def speed(bench: str) -> list[str]:
    """A line for each row: median, how many times that of the case's reference, and memory, or what COLUMNS says."""
    rows = [row for row in rows_of(BENCHMARKS / f"{bench}.jsonl") if "median_s" in row]
    if not rows:
        return NOTHING
    columns = COLUMNS.get(bench, {"peak MiB": peak})
    medians = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    lines = table_head(["case", "implementation", "median ms", "×", *columns, "commit"])
    for row in rows:
        ratio = row["median_s"] / medians[row["case"], row["reference"]]
        cells = [row["case"], row["implementation"], milliseconds(row["median_s"]), times(ratio)]
        lines.append(table_line([*cells, *(column(row) for column in columns.values()), row["commit"]]))
    return lines


def index() -> list[str]:
    """A line for each index, of each number of items and of queries at once; times are of one query."""
    rows = rows_of(BENCHMARKS / "index.jsonl")
    if not rows:
        return NOTHING
    medians = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    head = ["case", "index", "build s", "recall@100", "median ms", "p99 ms", "×", "MiB", "commit"]
    lines = table_head(head)
    for row in rows:
        ratio = times(row["median_s"] / medians[row["case"], row["reference"]])
        cells = [row["case"], row["implementation"], f"{row['build_s']:.1f}", f"{row['recall@100']:.4f}"]
        cells += [milliseconds(row["median_s"]), milliseconds(row["p99_s"]), ratio]
        lines.append(table_line([*cells, f"{row['index_bytes'] / 2**20:,.0f}", row["commit"]]))
    return lines


def mixtures() -> list[str]:
    """A line for each search for the best items under a mixture of logits; times are of all users of a case."""
    rows = rows_of(BENCHMARKS / "mol_topk.jsonl")
    medians = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    lines = table_head(["case", "search", "recall", "median ms", "×", "commit"])
    for row in rows:
        ratio = times(row["median_s"] / medians[row["case"], row["reference"]])
        cells = [row["case"], row["implementation"].removeprefix("louder, "), f"{row['recall']:.4f}"]
        lines.append(table_line([*cells, milliseconds(row["median_s"]), ratio, row["commit"]]))
    return lines


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.01 else f"{1e3 * seconds:.2g}"


# what a case must be beside another way: bench, case, implementation, in its place, at least so many times as fast
BACKWARD = "forward and backward"
TARGETS = [
    *(
        ("attention", f"uniform, N = {n}, {BACKWARD}", "louder", "padded", least)
        for n, least in ((1024, 8.0), (4096, 12.0))
    ),
    *(("attention", f"uniform, N = {n}, {BACKWARD}", "louder", "sdpa", 1.5) for n in (1024, 4096)),
    *(("attention", f"zipf, N = {n}, {BACKWARD}", "louder", "sdpa", 4.0) for n in (1024, 4096)),
    *(("attention", f"uniform, N = {n}, {BACKWARD}", "louder, bfloat16", "louder", 1.5) for n in (1024, 4096)),
    *(("attention", f"uniform rab, N = {n}, {BACKWARD}", "louder", "louder, no bias", 1 / 1.3) for n in (1024, 4096)),
    *(("encoder", "encoder, training, N = 8192", f"louder, alpha {a}", "transformer", 5.3) for a in ("1.6", "2.0")),
    ("encoder", "encoder, inference, N = 8192", "louder", "transformer", 5.6),
    ("mfalcon", "n = 4,096, m = 1,024, b = 512", "louder, cached", "one pass per candidate", 400.0),
    ("mfalcon", "n = 4,096, m = 1,024, b = 512", "louder, cached", "one batch", 2.0),
    *(
        ("mfalcon", f"285 × the DLRM's FLOPs, one pass, m = {m}", "louder, cached", "dlrm", least)
        for m, least in (("1,024", 1.5), ("16,384", 3.0))
    ),
    ("generative", "200 exposures a user", "louder", "one pass an exposure", 20.0),
    ("generative", "1,000 exposures a user", "louder", "one pass an exposure", 100.0),
]


def targets() -> list[str]:
    """For each target a line for each machine that measured it: how many times as fast the one is as the other."""
    earlier = rows_of(BENCHMARKS / "earlier.jsonl")
    lines = table_head(["case", "what", "beside", "asked ×", "measured ×", "machine"])
    for bench, case, name, other, least in TARGETS:
        rows = rows_of(BENCHMARKS / f"{bench}.jsonl") + [row for row in earlier if row["bench"] == bench]
        of_machine: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["case"] == case and "median_s" in row:
                of_machine.setdefault(row["machine"], {}).setdefault(row["implementation"], row["median_s"])
        for machine, medians in of_machine.items():
            if name in medians and other in medians:
                found = times(medians[other] / medians[name])
                lines.append(table_line([case, name, other, times(least), found, machine]))
    return lines if len(lines) > 2 else NOTHING


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.1g}"


def ranking(log: str, file: str = "ranking", names: dict[str, str] = RANKERS) -> list[str]:
    """A line for each model: mean and standard deviation over its seeds, of the main action on the test part."""
    found = [
        row for row in rows_of(RESULTS / f"{file}.jsonl") if (row["protocol"], row["part"]) == ("validated", "test")
    ]
    models = {model: list(latest(found, f"{log}-rank-{model}").values()) for model in names}
    models = {model: rows for model, rows in models.items() if rows}
    if not models:
        return NOTHING
    action = next(iter(models.values()))[0]["main"]
    metrics = {"NE": "ne", "AUC": "auc", "GAUC": "gauc_user"}
    head = [f"{name} of {action}" for name in metrics]
    lines = table_head(["model", *head, "seeds", "parameters", "FLOPs per exposure", "commit"])
    for model, rows in models.items():
        cells = [names[model]]
        cells += [mean_and_deviation([row["actions"][action][name] for row in rows]) for name in metrics.values()]
        cells += [", ".join(str(row["seed"]) for row in rows if "seed" in row), amount("parameters")(rows[-1])]
        cells += [amount("flops_per_exposure")(rows[-1]), ", ".join(dict.fromkeys(row["commit"] for row in rows))]
        lines.append(table_line(cells))
    return lines


def latest(rows: Sequence[Row], experiment: str) -> dict[int | None, Row]:
    """The last row of each seed, by the seed; the truth has none."""
    found = {row.get("seed"): row for row in rows if row["experiment"] == experiment}
    return {seed: found[seed] for seed in sorted(found, key=lambda seed: seed or 0)}


def sizes() -> list[str]:
    """A line for each log, model and size: what it computes, and how good it is on the test part."""
    measured = rows_of(RESULTS / "ranking_sizes.jsonl")
    recipes = [row | {"size": "the recipe"} for row in rows_of(RESULTS / "ranking.jsonl")]
    lines = table_head(["log", "model", "size", "parameters", "FLOPs per exposure", "NE", "AUC", "seeds"])
    for log, title in LOGS.items():
        for model, name in RANKERS.items():
            own = [row for row in measured if row["experiment"] == f"{log}-rank-{model}"]
            if own:
                own += latest(recipes, f"{log}-rank-{model}").values()
            own.sort(key=lambda row: (row["flops_per_exposure"], row["seed"]))
            for size, rows in itertools.groupby(own, key=lambda row: row["size"]):
                lines.append(size_line([title, name, size], list(rows)))
    return lines if measured else NOTHING


def size_line(cells: list[str], rows: Sequence[Row]) -> str:
    main = [row["actions"][row["main"]] for row in rows]
    metrics = [mean_and_deviation([row[name] for row in main]) for name in ("ne", "auc")]
    seeds = ", ".join(str(row["seed"]) for row in rows)
    return table_line([*cells, amount("parameters")(rows[0]), amount("flops_per_exposure")(rows[0]), *metrics, seeds])


def generative_ne() -> list[str]:
    """Both forms of training, of the last row: how fast, and what they took to equal NE."""
    rows = rows_of(RESULTS / "generative_ne.jsonl")
    if not rows:
        return NOTHING
    row = rows[-1]
    lines = table_head(["training", "exposures/s", "NE reached", "exposures to it", "seconds to it", "steps to it"])
    for form, name in {"generative": "all exposures of a history", "impression": "a pass for each"}.items():
        point = row["to_equal_ne"][form]
        cells = [name, f"{row['exposures_per_s'][form]:,.0f}", numbers([point["ne"]]), amount("exposures")(point)]
        lines.append(table_line([*cells, f"{point['seconds']:.1f}", amount("steps")(point)]))
    ratios = [row["times_exposures_per_s"], row["times_exposures_to_equal_ne"], row["times_as_fast_to_equal_ne"]]
    speed, exposures, seconds = (f"{ratio:.1f} ×" for ratio in ratios)
    lines.append(table_line(["the first beside the second", speed, "", exposures, f"{seconds} as fast", ""]))
    return lines


def mean_and_deviation(values: Sequence[float]) -> str:
    """.6123 ± .0012; of one value no deviation is known"""
    shown = numbers([statistics.mean(values)])
    return f"{shown} ± {numbers([statistics.stdev(values)])}" if len(values) > 1 else shown


def search() -> list[str]:
    """A line for each log and model: how good its random settings were on the validation part, and which was best."""
    rows = rows_of(RESULTS / "ranking_search.jsonl")
    lines = table_head(["log", "model", "trials", "best NE", "median NE", "best settings"])
    for log, title in LOGS.items():
        for model, name in RANKERS.items():
            tried = [row for row in rows if (row["experiment"], row["model"]) == (f"{log}-search", model)]
            if tried:
                best = min(tried, key=lambda row: row["ne"])
                values = numbers([best["ne"], statistics.median(row["ne"] for row in tried)])
                settings = ", ".join(f"`{one}`" for one in best["settings"]) or "those of the recipe"
                lines.append(table_line([title, name, str(len(tried)), values, settings]))
    return lines if rows else NOTHING


def rows_of(path: Path) -> list[Row]:
    return read_rows(path) if path.exists() else []


def table_head(names: Sequence[str]) -> list[str]:
    return [table_line(names), "|" + "---|" * len(names)]


def table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def numbers(values: Any) -> str:
    return " | ".join(f"{value:.4f}".lstrip("0") for value in values)


def serving() -> list[str]:
    """What was asked of the service, and what was measured."""
    rows = read_rows(BENCHMARKS / "serving.jsonl")
    by_case = {(row["case"], row["implementation"]): row for row in rows if row["bench"] == "serving"}

    def ms(case: str, implementation: str = "louder") -> str:
        row = by_case[case, implementation]
        return f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms"

    def times(case: str) -> str:
        kept, never = (by_case[case, name]["per_second"] for name in ("louder", "no-cache"))
        return f"{kept:,.0f} against {never:,.0f} a second: {kept / never:.1f} times"

    def share(row: Row) -> str:
        return ", ".join(f"{count:,} with {status}" for status, count in row["statuses"].items())

    lines = table_head(["what", "asked", "measured"])
    add = lines.append
    add(
        f"| retrieve 100, kept history, one client | p50 5 ms, p99 15 ms | {ms('retrieve top-100, cached, one client')} |"
    )
    add(f"| recommend (500 ranked), kept history, one client | | {ms('recommend, 500 ranked, cached, one client')} |")
    half = by_case["recommend at half of saturation", "louder"]
    memory = f"{half['mib'][0]:,} MiB before, {half['mib'][1]:,} after a minute, {half['mib'][-1]:,} after all"
    add(
        f"| recommend at half of saturation ({half['per_second']:.0f} a second), {half['seconds']:.0f} s | p99 100 ms, no "
        f"errors, memory flat | {ms('recommend at half of saturation')}; {share(half)}; {memory} |"
    )
    for name in "retrieve top-100", "recommend, 500 ranked":
        add(f"| {name}, 16 clients, against --no-cache | 5 times | {times(name + ', 16 clients')} |")
    over = by_case["recommend at three times saturation", "louder"]
    add(
        f"| recommend at three times saturation, {over['seconds']:.0f} s | accepted p99 300 ms, the rest 429, well again in "
        f"5 s | {ms('recommend at three times saturation')}; {share(over)}; {over['recovered_s']:.1f} s |"
    )
    swaps = by_case["hot reloads", "louder"]
    add(
        f"| {swaps['reloads']} hot reloads at half of saturation | none failed, none mixed | {swaps['mixed_or_failed']} "
        f"failed or mixed of {swaps['requests']:,}, by {len(swaps['versions'])} models |"
    )
    for kind, implementation in ("files", "files"), ("Redis", "redis"):
        row = next(r for r in rows if r["bench"] == "store_kill" and r["implementation"] == implementation)
        add(
            f"| kill -9, {row['kills']} times, {kind} | no acknowledged event lost | {row['lost']} of {row['acknowledged']:,} |"
        )
    contract = next(row for row in rows if row["bench"] == "serving_contract")
    add(
        f"| Schemathesis | 10,000 cases, no 5xx, no violation | {sum(contract['failures'].values())} of "
        f"{contract['cases']:,} cases |"
    )
    gone = by_case["redis gone", "louder"]
    counts = ", ".join(f"{count} {name}" for name, count in gone["gone"].items())
    add(
        f"| Redis gone for {gone['seconds']:.0f} s | with a history answered, others 503, back by itself | {counts}; back "
        f"after {gone['back_after_s']:.1f} s |"
    )
    return lines


def sizing() -> list[str]:
    """What a process and a user of the service take, by store."""
    rows = {row["case"]: row for row in read_rows(BENCHMARKS / "serving.jsonl") if row["bench"] == "serving"}
    found = [rows[case] for case in ("sizing, files", "sizing, redis") if case in rows]
    if len(found) < 2:
        return NOTHING

    def stored(events: int, row: Row) -> str:
        return f"{row[f'events_per_second_by_{events}']:,} (p99 {row[f'p99_ms_by_{events}']:,.0f} ms)"

    facts: dict[str, Callable[[Row], str]] = {
        "memory of a process before its first request": lambda row: f"{row['mib']:,} MiB",
        "kept keys and values, each user": lambda row: f"{row['cached_bytes'] / row['active_users'] / 1000:,.0f} kB",
        "store, each user": lambda row: f"{row['store_bytes'] / row['users'] / 1000:,.1f} kB",
        "events stored a second, 1 in a request, 8 clients": partial(stored, 1),
        "events stored a second, 100 in a request, 8 clients": partial(stored, 100),
    }
    lines = table_head(["what", "files", "Redis"])
    return lines + [table_line([name, *(tell(row) for row in found)]) for name, tell in facts.items()]


TABLES: dict[str, Callable[[], list[str]]] = {
    "ml1m validated": lambda: ml1m("validated"),
    "ml1m official": lambda: ml1m("official"),
    "etl": etl,
    "demo": demo,
    "targets": targets,
    "index": index,
    "mixtures": mixtures,
    "serving": serving,
    "ml1m validated means": lambda: ml1m_means("validated"),
    "ml1m official means": lambda: ml1m_means("official"),
    **{bench: partial(speed, bench) for bench in (*SPEED, *COLUMNS)},
    **{f"ranking {log}": partial(ranking, log) for log in LOGS},
    "ranking kuairand duplicates": partial(ranking, "kuairand", "ranking_with_duplicates"),
    "ranking search": search,
    "ranking synthetic": partial(ranking, "synthetic", "ranking_synthetic", SYNTHETIC),
    "ranking sizes": sizes,
    "generative ne": generative_ne,
    "sizing": sizing,
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
