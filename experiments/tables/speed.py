"""docs/benchmarks/: speed and memory."""

from collections.abc import Callable
from functools import partial

from benchmarks.rows import groups
from experiments.tables.lines import Tables, amount, mib, milliseconds, rows_of, table, times
from louder.results import Row

Columns = dict[str, Callable[[Row], str]]
MEMORY: Columns = {"peak MiB": mib}
COLUMNS: dict[str, Columns] = {
    **dict.fromkeys(("attention", "layer", "loss", "step", "encoder"), MEMORY),
    "generative": {"exposures/s": amount("labels_per_s")},
    "mfalcon": {
        "candidates/s": amount("candidates_per_s"),
        "FLOPs per candidate": amount("flops_per_candidate"),
        "error": lambda row: f"{row['max_error']:.1g}" if "max_error" in row else "",
    },
}


def measured(bench: str) -> list[tuple[Row, str]]:
    """The rows of a bench, and how many times the time of its case's reference each takes."""
    rows = [row for row in rows_of(bench) if "median_s" in row]
    medians = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    return [(row, times(row["median_s"] / medians[row["case"], row["reference"]])) for row in rows]


def speed(bench: str) -> list[str]:
    """A line for each row: median, how many times that of the case's reference, and what COLUMNS says."""
    columns = COLUMNS[bench]
    lines = [
        [row["case"], row["implementation"], milliseconds(row["median_s"]), ratio]
        + [column(row) for column in columns.values()]
        + [row["commit"]]
        for row, ratio in measured(bench)
    ]
    return table(["case", "implementation", "median ms", "×", *columns, "commit"], lines)


def index() -> list[str]:
    """A line for each index, of each number of items and of queries at once; times are of one query."""
    lines = []
    for row, ratio in measured("index"):
        quality = [f"{row['build_s']:.1f}", f"{row['recall@100']:.4f}"]
        speeds = [milliseconds(row["median_s"]), milliseconds(row["p99_s"]), ratio]
        lines.append([row["case"], row["implementation"], *quality, *speeds, mib(row, "index_bytes"), row["commit"]])
    return table(["case", "index", "build s", "recall@100", "median ms", "p99 ms", "×", "MiB", "commit"], lines)


def id_finds() -> list[str]:
    """A line for each way to find ids, of each number of them."""
    lines = []
    for row in [row for row in rows_of("id_table") if row["part"] == "finds"]:
        speeds = [f"{row[name] / 1e6:.1f}" for name in ("median_finds_per_cpu_s", "finds_per_cpu_s")]
        lines.append([row["case"], row["implementation"], *speeds, str(row.get("bytes_per_id", "")), row["commit"]])
    return table(["case", "implementation", "million a CPU second", "the fastest run", "bytes an id", "commit"], lines)


def id_steps() -> list[str]:
    """A line for each step of training, and its time as a share of that of static tables."""
    lines = []
    for row in [row for row in rows_of("id_table") if row["part"] == "step"]:
        lines.append(
            [row["case"], row["implementation"], f"{1e3 * row['cpu_s']:.1f}", times(row["ratio"]), row["commit"]]
        )
    return table(["case", "tables", "median CPU ms", "×", "commit"], lines)


def id_budget() -> list[str]:
    """A line for each way to use rows: means over the seeds."""
    lines = []
    own = [row for row in rows_of("id_table") if row["part"] == "budget"]
    for name, rows in groups(own, lambda row: row["implementation"]).items():
        rate, ratio = (sum(row[key] for row in rows) / len(rows) for key in ("hr@10", "ratio"))
        ratios = f"{min(row['ratio'] for row in rows):.3f} to {max(row['ratio'] for row in rows):.3f}"
        sizes = [f"{rows[0]['rows']:,}", str(len(rows))]
        lines.append([name, *sizes, f"{rate:.4f}".lstrip("0"), f"{ratio:.3f}", ratios, rows[0]["commit"]])
    return table(["items have", "rows", "seeds", "HR@10", "×", "least and most", "commit"], lines)


def mixtures() -> list[str]:
    """A line for each search for the best items under a mixture of logits; times are of all users of a case."""
    lines = []
    for row, ratio in measured("mol_topk"):
        search = row["implementation"].removeprefix("louder, ")
        lines.append([row["case"], search, f"{row['recall']:.4f}", milliseconds(row["median_s"]), ratio, row["commit"]])
    return table(["case", "search", "recall", "median ms", "×", "commit"], lines)


def two_commits(before: str) -> list[str]:
    """A line for each case and sitting, of what was measured beside the commit `before`: medians of both commits, and the
    quartiles of the ratios of pairs."""
    lines = []
    for row in [row for row in rows_of("two_commits") if row["commit_before"].startswith(before)]:
        quartiles = " to ".join(times(ratio) for ratio in row["ratio_quartiles"])
        medians = f"{row['before']:.4g}", f"{row['after']:.4g}", row["unit"]
        lines.append([row["case"], str(row["threads"]), *medians, times(row["ratio"]), quartiles, str(row["pairs"])])
    return table(["case", "threads", "before", "after", "", "after / before", "quartiles", "pairs"], lines)


PEAK = 989.0  # TFLOP/s of dense bfloat16 products, the data sheet of the H200


def blocks() -> list[str]:
    """For each case and kernel of attention, the size of blocks that is the fastest on the card, and the slowest's time."""
    lines = []
    for name, own in groups(rows_of("attention_blocks"), lambda row: f"{row['case']}: {row['kernel']}").items():
        best, worst = (choose(own, key=lambda row: row["median_s"]) for choose in (min, max))
        sizes = f"{best['BLOCK_M']} × {best['BLOCK_N']}, {best['warps']} warps, {best['stages']} stages"
        speeds = [f"{best['tflops']:.0f}", f"{best['tflops'] / PEAK:.0%}", milliseconds(worst["median_s"])]
        lines.append([name.replace("_", " "), sizes, f"{1e3 * best['median_s']:.2f}", *speeds, best["commit"]])
    return table(["case and kernel", "rows × keys", "ms", "TFLOP/s", "of peak", "the slowest", "commit"], lines)


def gpu() -> list[str]:
    """A line for each row of `benchmarks gpu`."""
    lines = [
        [row["case"], row["implementation"], f"{1e3 * row['median_s']:.2f}", ratio, mib(row), row["commit"]]
        for row, ratio in measured("gpu")
    ]
    return table(["case", "implementation", "median ms", "×", "peak MiB", "commit"], lines)


# what a case must be beside another way: bench, case, implementation, in its place, at least so many times as fast
BACKWARD = "forward and backward"
MFALCON = "n = 4,096, m = 1,024, b = 512"
DLRM = "285 × the DLRM's FLOPs, one pass, m ="
TARGETS = [
    *(("attention", f"uniform, N = {n}, {BACKWARD}", "louder", "padded", x) for n, x in ((1024, 8.0), (4096, 12.0))),
    *(("attention", f"uniform, N = {n}, {BACKWARD}", "louder", "sdpa", 1.5) for n in (1024, 4096)),
    *(("attention", f"zipf, N = {n}, {BACKWARD}", "louder", "sdpa", 4.0) for n in (1024, 4096)),
    *(("attention", f"uniform, N = {n}, {BACKWARD}", "louder, bfloat16", "louder", 1.5) for n in (1024, 4096)),
    *(("attention", f"uniform rab, N = {n}, {BACKWARD}", "louder", "louder, no bias", 1 / 1.3) for n in (1024, 4096)),
    *(("encoder", "encoder, training, N = 8192", f"louder, alpha {a}", "transformer", 5.3) for a in ("1.6", "2.0")),
    ("encoder", "encoder, inference, N = 8192", "louder", "transformer", 5.6),
    ("mfalcon", MFALCON, "louder, cached", "one pass per candidate", 400.0),
    ("mfalcon", MFALCON, "louder, cached", "one batch", 2.0),
    *(("mfalcon", f"{DLRM} {m}", "louder, cached", "dlrm", x) for m, x in (("1,024", 1.5), ("16,384", 3.0))),
    ("generative", "200 exposures a user", "louder", "one pass an exposure", 20.0),
    ("generative", "1,000 exposures a user", "louder", "one pass an exposure", 100.0),
]


def targets() -> list[str]:
    """For each target a line for each machine that measured it: how many times as fast the one is as the other."""
    earlier = rows_of("earlier")
    lines = []
    for bench, case, name, other, least in TARGETS:
        of_machine: dict[str, dict[str, float]] = {}
        for row in rows_of(bench) + [row for row in earlier if row["bench"] == bench]:
            if row["case"] == case and "median_s" in row:
                of_machine.setdefault(row["machine"], {}).setdefault(row["implementation"], row["median_s"])
        for machine, medians in of_machine.items():
            if name in medians and other in medians:
                lines.append([case, name, other, times(least), times(medians[other] / medians[name]), machine])
    return table(["case", "what", "beside", "asked ×", "measured ×", "machine"], lines)


TABLES: Tables = {
    **{bench: partial(speed, bench) for bench in COLUMNS},
    "gpu": gpu,
    "blocks": blocks,
    "targets": targets,
    "index": index,
    "id finds": id_finds,
    "id steps": id_steps,
    "id budget": id_budget,
    "mixtures": mixtures,
    "two_commits": partial(two_commits, "8bd97c0"),
    "throughput": partial(two_commits, "b9c4b18"),
}
