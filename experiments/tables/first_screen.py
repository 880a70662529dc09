"""README.md: what is claimed first, and RecTools beside Louder in docs/benchmarks/pipeline.md."""

from benchmarks.rows import groups
from experiments.tables.lines import Tables, mean_and_deviation, rows_of, table
from experiments.tables.results import models, published
from louder.results import Row

PAGE = "https://github.com/MobileTeleSystems/RecTools"
HALF = "recommend at half of saturation"


def claims() -> list[str]:
    """A line for each, with where its rows are shown."""
    return [line for line in (quality(), speed(), service()) if line]


def quality() -> str:
    """HSTU-large on the restored archive, as the official code is measured, beside its authors' figures."""
    own = models([row for row in rows_of("ml1m_restored") if "by_filter" in row], "official")["HSTU-large"]
    mean = mean_and_deviation([row["by_filter"]["window"]["hr@10"] for row in own])
    (theirs,) = published("HSTU-large", "official", empty=0)
    seeds = len({row["seed"] for row in own})
    return (
        f"- **The model of the paper.** HSTU-large finds the next film of MovieLens-1M among its ten best with HR@10 "
        f"{mean} ({seeds} seeds); its authors report {theirs[1]}, with ties in another order. Outputs and gradients equal "
        "their code's to 1e-4. [Results](docs/results.md)"
    )


def speed() -> str:
    """Beside RecTools, once it was measured; until then beside the official way."""
    if rows := rows_of("rectools"):
        own = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
        epoch, lists = ("an epoch, HSTU-large", "lists of 100 for all users, HSTU-large")
        (one, other), (mine, their) = (
            [seconds(own[case, name]) for name in ("louder", "rectools")] for case in (epoch, lists)
        )
        cores = rows[0]["threads"]
        return (
            f"- **Fast where you are.** On {cores} cores an epoch of HSTU-large on MovieLens-1M takes {one}, and lists of 100 "
            f"for its 6,040 users {mine}; [RecTools]({PAGE}) {rectools_version(rows)} takes {other} and {their}. "
            "[Side by side](docs/benchmarks/pipeline.md#beside-rectools)"
        )
    case, name, other = "uniform, N = 4096, forward and backward", "louder", "padded"
    medians = {row["implementation"]: row["median_s"] for row in rows_of("attention") if row["case"] == case}
    return (
        f"- **Fast where you are.** On two cores, without a GPU, HSTU attention over histories of 4,096 events is "
        f"{medians[other] / medians[name]:.0f} times as fast as the padded way of the official code, forward and backward. "
        "[Kernels](docs/benchmarks/kernels.md)"
    )


def service() -> str:
    rows = rows_of("serving")
    half = next(row for row in reversed(rows) if row.get("case") == HALF)
    killed = next(row for row in reversed(rows) if row["bench"] == "store_kill" and row["implementation"] == "files")
    return (
        f"- **A service that one can rely on.** 500 candidates ranked anew for each request, {half['per_second']:.0f} requests a "
        f"second on two cores: half are answered in {half['p50_ms']:.0f} ms, 99 % in {half['p99_ms']:.0f} ms. Killed "
        f"{killed['kills']} times with `kill -9`, it lost {killed['lost']} of {killed['acknowledged']:,} events it had "
        "acknowledged. [Serving](docs/benchmarks/serving.md)"
    )


def rectools() -> list[str]:
    """A line for each case: seconds of both, and how many times as long RecTools takes."""
    lines = []
    for case, rows in groups(rows_of("rectools"), lambda row: row["case"]).items():
        own = {row["implementation"]: row for row in rows}
        mine, theirs = own["louder"], own["rectools"]
        spread = [f"{row['median_s']:.1f} ({row['min_s']:.1f} to {row['max_s']:.1f})" for row in (mine, theirs)]
        labels = f"{mine['labels']:,}" if "labels" in mine else f"{mine['rows']:,}"
        ratio = f"{theirs['median_s'] / mine['median_s']:.1f}"
        lines.append([case, labels, *spread, ratio, str(mine["runs"]), mine["commit"]])
    return table(["case", "labels or rows", "Louder, s", "RecTools, s", "×", "runs", "commit"], lines)


def rectools_version(rows: list[Row]) -> str:
    version: str = next(row["version"] for row in rows if row["implementation"] == "rectools")
    return version.removesuffix(".0")


def seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


TABLES: Tables = {"claims": claims, "rectools": rectools}
