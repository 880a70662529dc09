"""docs/scaling.md: the points, the law through them, and what was predicted."""

from collections.abc import Sequence

from experiments.scaling.figure import exponent
from experiments.scaling.fit import EXCESS, LAWS, Fitted, cells_of, fit
from experiments.scaling.points import BEYOND, EXPERIMENT, badness
from experiments.tables.lines import Tables, mean_and_deviation, number, rows_of, table
from louder.results import Row

MODELS = {
    "hstu": "HSTU",
    "dlrm": "DLRM",
    "wukong": "Wukong",
    "next-hstu": "HSTU, next item",
    "next-sasrec": "SASRec, next item",
}


def found(kind: str) -> list[Row]:
    return [row for row in rows_of(EXPERIMENT) if row["kind"] == kind]


def points() -> list[str]:
    """A line for each compute and size, seeds together."""
    together: dict[tuple[str, float, int], list[Row]] = {}
    for row in found("point"):
        together.setdefault((row["model"], row["compute"], row["size"]), []).append(row)
    lines = [
        point_line(rows) for _, rows in sorted(together.items(), key=lambda x: (list(MODELS).index(x[0][0]), x[0]))
    ]
    head = (
        "model",
        "FLOPs",
        "size",
        "FLOPs per exposure",
        "exposures",
        "learning rate",
        "NE",
        "excess NE",
        "HR@100",
        "seeds",
    )
    return table(head, lines)


def point_line(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    values = [exponent(first["compute"]), str(first["size"]), f"{first['flops_per_exposure']:,.0f}"]
    values += [f"{first['exposures']:,}", f"{first['learning_rate']:.2g}"]
    values += [
        mean_and_deviation([row[name] for row in rows]) if name in first else ""
        for name in ("ne", "excess_ne", "hr@100")
    ]
    return [MODELS[first["model"]], *values, ", ".join(str(row["seed"]) for row in rows)]


def rates() -> list[str]:
    lines = [
        [MODELS[row["model"]], str(row["size"]), f"{row['learning_rate']:g}", number(abs(badness(row)))]
        for row in sorted(found("rate"), key=lambda row: (row["model"], row["size"], row["learning_rate"]))
    ]
    return table(("model", "size", "learning rate", "excess NE, or HR@100"), lines)


def laws() -> list[str]:
    rows, lines = rows_of(EXPERIMENT), []
    for model, name in MODELS.items():
        for law in LAWS:
            if (fitted := fit(cells_of(rows, model, law, upto=BEYOND / 2), law)) is not None:
                lines.append([name, *law_line(fitted)])
    head = "model", "metric", "law", "exponent or slope", "decades", "seeds", "excludes 0"
    return table(head, lines)


def figure() -> list[str]:
    """Nothing to draw before there is a law."""
    drawn = fit(cells_of(rows_of(EXPERIMENT), "hstu", EXCESS, upto=BEYOND / 2), EXCESS)
    return ["![Excess NE by compute and by size](images/scaling.svg)"] if drawn else ["Too few points for a law yet."]


def law_line(fitted: Fitted) -> list[str]:
    rate, (low, high) = fitted.rate, fitted.rate_interval
    power = fitted.law.power
    law = f"a · C^-{rate:.3f}" if power else f"u + {rate:.4f} · ln C"
    shown = f"{rate:.4f} [{low:.4f}, {high:.4f}]"
    name = "excess NE" if fitted.law == EXCESS else fitted.law.metric.upper()
    verdict = "yes" if low > 0 or high < 0 else "no"
    return [name, law, shown, f"{fitted.decades:.1f}", str(fitted.seeds), verdict]


def predictions() -> list[str]:
    rows, lines = rows_of(EXPERIMENT), []
    for row in found("prediction"):
        there = [x for x in rows if x["kind"] == "point" and x["model"] == row["model"] and x["compute"] == BEYOND]
        best = min(there, key=badness) if there else None
        sizes, values = row["size_interval"], row["interval"]
        size = f"{row['size_exact']:.1f} [{sizes[0]:.1f}, {sizes[1]:.1f}]"
        value = f"{number(abs(badness(row)))} [{number(values[0])}, {number(values[1])}]"
        measured = ["not trained yet", ""] if best is None else [str(best["size"]), number(abs(badness(best)))]
        lines.append([MODELS[row["model"]], size, value, *measured])
    return table(
        ("model", "predicted size", "predicted excess NE, or HR@100", "best size trained", "what it has"), lines
    )


TABLES: Tables = {
    "scaling figure": figure,
    "scaling points": points,
    "scaling rates": rates,
    "scaling laws": laws,
    "scaling predictions": predictions,
}
