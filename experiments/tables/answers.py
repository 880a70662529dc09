"""docs/results.md: the lists of two stages."""

from collections.abc import Sequence

from experiments.tables.lines import Tables, mean_and_deviation, number, rows_of, table
from louder.results import Row

RUNS = {
    "ml1m-rank-hstu": "MovieLens-1M, joint run",
    "ml1m-hstu-large": "MovieLens-1M, HSTU-large and a ranker",
    "kuairand-rank-joint": "KuaiRand-Pure, joint run",
}
LISTS = {
    "default": "the default",
    "retrieval": "retrieval alone",
    "ranker": "the ranker alone",
    "popularity": "popularity",
}
METRICS = {
    "hr@10": "HR@10",
    "ndcg@10": "NDCG@10",
    "liked_hr@10": "HR@10 of the liked",
    "liked_ndcg@10": "NDCG@10 of the liked",
    "coverage@10": "coverage@10",
    "mean_worth": "mean worth",
}


def found() -> dict[str, list[Row]]:
    """The latest row of each seed, by experiment."""
    rows: dict[str, dict[int, Row]] = {}
    for row in rows_of("answers"):
        rows.setdefault(row["experiment"], {})[row["seed"]] = row
    return {name: [rows[name][seed] for seed in sorted(rows[name])] for name in RUNS if name in rows}


def answers() -> list[str]:
    lines = []
    for name, rows in found().items():
        for kind, title in LISTS.items():
            cells = [values(rows, kind, metric) for metric in METRICS]
            lines.append([RUNS[name] if kind == "default" else "", title, *cells])
    return table(["run", "list", *METRICS.values()], lines)


def values(rows: Sequence[Row], kind: str, metric: str) -> str:
    known = [row["answer"][kind][metric] for row in rows if row["answer"][kind].get(metric) is not None]
    return mean_and_deviation(known) if known else ""


def gains() -> list[str]:
    """A line for each seed: by how much HR@10 of the default is above that of others."""
    lines = []
    for name, rows in found().items():
        for row in rows:
            answer = row["answer"]
            asked = f"{answer['requests']:,} of {answer['users']:,} users"
            cells = [
                gain(answer[f"{what}_above_{other}"])
                for other in ("retrieval", "popularity")
                for what in ("hr", "liked_hr")
            ]
            lines.append([RUNS[name], str(row["seed"]), f"{answer['weight']:g}", asked, *cells, row["commit"]])
    above = [f"above {other}, {what}" for other in ("retrieval", "popularity") for what in ("all", "liked")]
    return table(["run", "seed", "weight", "requests", *above, "commit"], lines)


def gain(row: Row) -> str:
    return f"{signed(row['mean'])} ({signed(row['low'])} to {signed(row['high'])})" if row["mean"] is not None else ""


def signed(value: float) -> str:
    return ("−" if value < 0 else "+") + number(abs(value))


TABLES: Tables = {"answers": answers, "answer gains": gains}
