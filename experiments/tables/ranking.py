"""docs/results.md: rankers."""

import itertools
import statistics
from collections.abc import Sequence
from functools import partial

from experiments.tables.lines import Tables, amount, mean_and_deviation, number, rows_of, table
from louder.results import Row

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
CROSSED = {
    "hstu": "HSTU",
    "hstu-crosses-alone": "HSTU, crosses",
    "hstu-cross": "HSTU, crosses and counters of items",
    "dlrm": "DLRM",
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


def ranking(log: str, file: str = "ranking", names: dict[str, str] = RANKERS) -> list[str]:
    """A line for each model: mean and standard deviation over its seeds, of the main action on the test part."""
    found = [row for row in rows_of(file) if (row["protocol"], row["part"]) == ("validated", "test")]
    models = {model: list(latest(found, f"{log}-rank-{model}").values()) for model in names}
    lines, action = [], ""
    for model, rows in models.items():
        if rows:
            action = action or rows[0]["main"]
            of_action = [row["actions"][action] for row in rows]
            means = [mean_and_deviation([one[of] for one in of_action]) for of in ("ne", "auc", "gauc_user")]
            seeds = ", ".join(str(row["seed"]) for row in rows if "seed" in row)
            commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
            lines.append([names[model], *means, seeds, *computed(rows[-1]), commits])
    metrics = [f"{name} of {action}" for name in ("NE", "AUC", "GAUC")]
    return table(["model", *metrics, "seeds", "parameters", "FLOPs per exposure", "commit"], lines)


def by_length() -> list[str]:
    """A line for each model: NE by the length of the history, mean and standard deviation over its seeds."""
    found, lines, firsts, counts = rows_of("ranking_by_length"), [], list[int](), list[str]()
    for model, name in CROSSED.items():
        rows = list(latest(found, f"kuairand-rank-{model}").values())
        if rows:
            firsts = [part["from"] for part in rows[0]["ne_by_length"]]
            counts = [f"{part['exposures']:,}" for part in rows[0]["ne_by_length"]]
            columns = zip(*([part["ne"] for part in row["ne_by_length"]] for row in rows))
            lines.append([name, *map(mean_and_deviation, columns)])
    spans = [
        f"{first}" if next == first + 1 else f"{first} to {next - 1}" for first, next in itertools.pairwise(firsts)
    ]
    return table(
        ["events before", *spans, *[f"{first} and more" for first in firsts[-1:]]], [["exposures", *counts], *lines]
    )


def latest(rows: Sequence[Row], experiment: str) -> dict[int | None, Row]:
    """The last row of each seed, by the seed; the truth has none."""
    found = {row.get("seed"): row for row in rows if row["experiment"] == experiment}
    return {seed: found[seed] for seed in sorted(found, key=lambda seed: seed or 0)}


def computed(row: Row) -> list[str]:
    return [amount("parameters")(row), amount("flops_per_exposure")(row)]


def sizes() -> list[str]:
    """A line for each log, model and size: what it computes, and how good it is on the test part."""
    measured = rows_of("ranking_sizes")
    recipes = [row | {"size": "the recipe"} for row in rows_of("ranking")] if measured else []
    lines = []
    for (log, title), (model, name) in itertools.product(LOGS.items(), RANKERS.items()):
        own = [row for row in measured if row["experiment"] == f"{log}-rank-{model}"]
        if own:
            own += latest(recipes, f"{log}-rank-{model}").values()
        own.sort(key=lambda row: (row["flops_per_exposure"], row["seed"]))
        for size, grouped in itertools.groupby(own, key=lambda row: row["size"]):
            rows = list(grouped)
            means = [mean_and_deviation([row["actions"][row["main"]][of] for row in rows]) for of in ("ne", "auc")]
            seeds = ", ".join(str(row["seed"]) for row in rows)
            lines.append([title, name, size, *computed(rows[0]), *means, seeds])
    return table(["log", "model", "size", "parameters", "FLOPs per exposure", "NE", "AUC", "seeds"], lines)


def search() -> list[str]:
    """A line for each log and model: how good its random settings were on the validation part, and which was best."""
    lines = []
    for (log, title), (model, name) in itertools.product(LOGS.items(), RANKERS.items()):
        wanted = f"{log}-search", model
        tried = [row for row in rows_of("ranking_search") if (row["experiment"], row["model"]) == wanted]
        if tried:
            best, median = min(tried, key=lambda row: row["ne"]), statistics.median(row["ne"] for row in tried)
            settings = ", ".join(f"`{one}`" for one in best["settings"]) or "those of the recipe"
            lines.append([title, name, str(len(tried)), number(best["ne"]), number(median), settings])
    return table(["log", "model", "trials", "best NE", "median NE", "best settings"], lines)


def generative_ne() -> list[str]:
    """Both forms of training, of the last row: how fast, and what they took to equal NE."""
    lines = []
    for row in rows_of("generative_ne")[-1:]:
        for form, name in {"generative": "all exposures of a history", "impression": "a pass for each"}.items():
            point = row["to_equal_ne"][form]
            taken = [amount("exposures")(point), f"{point['seconds']:.1f}", amount("steps")(point)]
            lines.append([name, amount(form)(row["exposures_per_s"]), number(point["ne"]), *taken])
        names = "times_exposures_per_s", "times_exposures_to_equal_ne", "times_as_fast_to_equal_ne"
        speed, exposures, seconds = (f"{row[name]:.1f} ×" for name in names)
        lines.append(["the first beside the second", speed, "", exposures, f"{seconds} as fast", ""])
    return table(["training", "exposures/s", "NE reached", "exposures to it", "seconds to it", "steps to it"], lines)


TABLES: Tables = {
    **{f"ranking {log}": partial(ranking, log) for log in LOGS},
    "ranking ml1m restored": partial(ranking, "ml1m", "ranking_restored"),
    "ranking kuairand duplicates": partial(ranking, "kuairand", "ranking_with_duplicates"),
    "ranking synthetic": partial(ranking, "synthetic", "ranking_synthetic", SYNTHETIC),
    "ranking kuairand cross": partial(ranking, "kuairand", "ranking_cross", CROSSED),
    "ranking length": by_length,
    "ranking sizes": sizes,
    "ranking search": search,
    "generative ne": generative_ne,
}
