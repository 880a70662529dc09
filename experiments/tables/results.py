"""docs/results.md, docs/results_earlier.md and docs/paper.md: next items, the ETL and the demo."""

from collections.abc import Iterator
from functools import partial

from benchmarks.rows import groups
from experiments.tables.lines import Tables, mean_and_deviation, mib, number, rows_of, table
from louder.reports.published import DATASETS, PAPER
from louder.results import Row

METRICS = "hr@10", "ndcg@10", "hr@50", "hr@200"
HEAD = "model", "HR@10", "NDCG@10", "HR@50", "HR@200"
NAMES = {
    "ml1m-sasrec": "SASRec",
    "ml1m-hstu": "HSTU",
    "ml1m-hstu-large": "HSTU-large",
    "ml1m-hstu-large-mol": "HSTU-large, MoL",
    "ml1m-transformer": "Transformer",
}


def ml1m(protocol: str) -> list[str]:
    """A line for each run, beside popularity and what was published."""
    rows = sorted(rows_of("ml1m_rebuilt_times"), key=lambda row: row["seed"])
    lines = []
    for name, own in models(rows, protocol).items():
        lines += [[name, *values(row["metrics"]), str(row["epoch"] + 1), str(row["seed"])] for row in own]
        lines += published(name, protocol, empty=2)
    return table([*HEAD, "epoch", "seed"], popularity(rows, protocol, empty=2) + lines)


def ml1m_means(protocol: str) -> list[str]:
    """Mean and standard deviation over the seeds, likewise."""
    rows = rows_of("ml1m_rebuilt_times")
    lines = []
    for name, own in models(rows, protocol).items():
        lines += [[name, *means([row["metrics"] for row in own]), str(len(own))], *published(name, protocol, empty=1)]
    return table([*HEAD, "seeds"], popularity(rows, protocol, empty=1) + lines)


def ml1m_restored() -> list[str]:
    """Mean and standard deviation over the runs, by model and by what was left out of the catalogue for a user; beside what
    was published."""
    lines = []
    for name, protocol, own in restored():
        for left_out in "window", "history":
            metrics = means([row["by_filter"][left_out] for row in own])
            lines.append([name, protocol, left_out, *metrics, str(len(own))])
        theirs = published(name, protocol, empty=1)
        lines += [[line[0], protocol, "window", *line[1:]] for line in theirs]
    return table([HEAD[0], "protocol", "filter", *HEAD[1:], "runs"], lines)


def paper_ml1m() -> list[str]:
    """HR@10 and NDCG@10 under `official`, beside what was published, and what each gains over SASRec there and here."""
    lines: list[list[str]] = []
    base: dict[str, tuple[float, float]] = {}
    for name, protocol, own in restored():
        theirs = [row for row in DATASETS["ml1m"].rows if row.model == name and row.source != PAPER]
        if protocol == "official" and theirs:
            here = [row["by_filter"]["window"] for row in own]
            cells = [name]
            for metric in "hr@10", "ndcg@10":
                published_one, mean = theirs[0].metrics[metric], sum(row[metric] for row in here) / len(here)
                first = base.setdefault(metric, (published_one, mean))
                cells += [number(published_one), mean_and_deviation([row[metric] for row in here])]
                cells += [f"{published_one / first[0] - 1:+.1%}", f"{mean / first[1] - 1:+.1%}"]
            lines.append(cells)
    gains = "gain, theirs", "gain, ours"
    return table(["model", "HR@10, theirs", "ours", *gains, "NDCG@10, theirs", "ours", *gains], lines)


def ml1m_gaps() -> list[str]:
    """HR@10 by the time from the latest event to the target, a column for each model."""
    found = list(restored())
    gaps = [(gap["gap"], f"{gap['users']:,}") for gap in found[0][2][0]["by_gap"]]
    columns = [
        [mean_and_deviation([row["by_gap"][place]["hr@10"] for row in own]) for place in range(len(gaps))]
        for _, _, own in found
    ]
    head = ["at most", "users", *(f"{name}, {protocol}" for name, protocol, _ in found)]
    return table(head, [[*gap, *line] for gap, line in zip(gaps, zip(*columns, strict=True), strict=True)])


def restored() -> Iterator[tuple[str, str, list[Row]]]:
    """Models, protocols and their rows on the restored archive; those before 2026-11-26 lack the breakdowns."""
    rows = [row for row in rows_of("ml1m_restored") if "by_filter" in row]
    for protocol in "validated", "official":
        for name, own in models(rows, protocol).items():
            yield name, protocol, own


LOGS = {
    "beauty": "Amazon Beauty",
    "sports": "Amazon Sports",
    "toys": "Amazon Toys",
    "grocery": "Amazon Grocery",
    "books": "Amazon Books, a sample",
    "games": "Amazon Games 2018",
    "food": "Food.com",
    "yoochoose": "YooChoose, purchases",
    "foursquare": "Foursquare, New York",
}


def other_logs() -> list[str]:
    """For each log popularity and the models, as far as they are trained."""
    rows, lines = rows_of("other_logs"), []
    for name, label in LOGS.items():
        own = [row for row in rows if row["table"] == name]
        if own:
            size = f"{own[0]['users']:,} users, {own[0]['items']:,} items"
            left_out = own[0]["seen_items_left_out"]
            popular = [number(own[0]["popularity"][x]) for x in ("hr@10", "ndcg@10")]
            lines.append([label, size, left_out, "popularity", *popular, ""])
        for model, label in ("sasrec", "SASRec"), ("transformer", "Transformer"), ("hstu", "HSTU"):
            if found := [row["metrics"] for row in own if row["model"] == model]:
                metrics = [mean_and_deviation([one[x] for one in found]) for x in ("hr@10", "ndcg@10")]
                lines.append(["", "", "", label, *metrics, str(len(found))])
    return table(["log", "size", "left out", "model", "HR@10", "NDCG@10", "seeds"], lines)


def means(metrics: list[dict[str, float]]) -> list[str]:
    return [mean_and_deviation([one[name] for one in metrics]) for name in METRICS]


def models(rows: list[Row], protocol: str) -> dict[str, list[Row]]:
    """The rows of each model that was measured, by its name."""
    found = groups((row for row in rows if row["protocol"] == protocol), lambda row: row["experiment"])
    return {name: found[experiment] for experiment, name in NAMES.items() if experiment in found}


def popularity(rows: list[Row], protocol: str, empty: int) -> list[list[str]]:
    found = [row["popularity"] for row in rows if row["protocol"] == protocol]
    return [["popularity", *values(found[0]), *[""] * empty]] if found else []


def published(model: str, protocol: str, empty: int) -> list[list[str]]:
    """The line of its authors' README for a model on ML-1M, with so many empty cells at its end."""
    rows = DATASETS["ml1m"].rows if protocol == "official" else ()
    found = [row for row in rows if row.model == model and row.source != PAPER]
    return [[f"{model}, as published", *values(row.metrics), *[""] * empty] for row in found]


def values(metrics: dict[str, float]) -> list[str]:
    return [number(metrics[name]) for name in METRICS]


def etl() -> list[str]:
    rows = rows_of("etl")
    lines = [[row["case"], row["implementation"], f"{row['median_s']:.2f}", mib(row), row["commit"]] for row in rows]
    return table(["log", "implementation", "median s", "peak MiB", "commit"], lines)


def demo() -> list[str]:
    names = "hr@10", "ndcg@10", "popularity_hr@10", "popularity_ndcg@10"
    head = ["seconds in all", "HR@10", "NDCG@10", "popularity HR@10", "popularity NDCG@10", "machine"]
    rows = rows_of("demo")
    return table(head, [[f"{row['seconds']:.0f}", *(number(row[x]) for x in names), row["machine"]] for row in rows])


TABLES: Tables = {
    **{f"ml1m {protocol}": partial(ml1m, protocol) for protocol in ("validated", "official")},
    **{f"ml1m {protocol} means": partial(ml1m_means, protocol) for protocol in ("validated", "official")},
    "ml1m restored": ml1m_restored,
    "ml1m restored gaps": ml1m_gaps,
    "other logs": other_logs,
    "paper ml1m": paper_ml1m,
    "etl": etl,
    "demo": demo,
}
