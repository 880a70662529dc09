"""Draw what ranking_search.py found: one HTML page that opens without a network.

python -m experiments.search_page experiments/results/ranking_search.jsonl -o search.html
"""

import argparse
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

from plotly.graph_objects import Figure

from benchmarks.rows import groups
from louder.reports.chart import legend, titled
from louder.reports.markup import Html, document, figures, joined, section, table, tag, write_page
from louder.reports.theme import BLUE, GREEN, GREY, ORANGE
from louder.results import Row, read_rows

COLOURS = {"hstu": BLUE, "dlrm": ORANGE, "wukong": GREEN}
POINTS: Row = {"boxpoints": "all", "pointpos": 0, "jitter": 0.6, "hoveron": "points"}
POINTS_ALONE: Row = POINTS | {"line": {"width": 0}, "fillcolor": "rgba(0,0,0,0)"}  # without the box
NOTE = "NE of the main action on the validation part; lower is better; the share of positives alone gives 1."


def write_search_page(rows: Sequence[Row], output: Path) -> None:
    searches = [search_section(name, own) for name, own in groups(rows, lambda row: row["experiment"]).items()]
    write_page(document("Louder: searches", [tag("h1", "Searches"), *searches]), output)


def search_section(name: str, rows: Sequence[Row]) -> Html:
    found = groups(rows, lambda row: row["model"])
    models = {model: found[model] for model in sorted(found, key=[*COLOURS, *found].index)}
    tried = figures([draw_trials(models), draw_best_so_far(models)])
    curves = [draw_curves(model, own) for model, own in models.items()]
    low, high = scale([point["ne"] for row in rows for point in row["curve"]])
    for figure in curves:
        figure.update_yaxes(range=[low, high])
    best = {model: min(own, key=lambda row: row["ne"]) for model, own in models.items()}
    head = ["model", "best settings", "trials", "best NE", "its AUC", "median NE", "epoch"]
    lines = []
    for model, own in models.items():
        scores = best[model]["ne"], best[model]["auc"], statistics.median(row["ne"] for row in own)
        shown = [f"{score:.4f}" for score in scores]
        lines.append([model, said(best[model]), len(own), *shown, best[model]["epoch"] + 1])
    learning = joined([tag("h3", "Learning curves, the best trial's in colour"), figures(curves, columns=3)])
    return section(name, NOTE, table(head, lines, numbers=2), tried, learning)


def draw_trials(models: dict[str, list[Row]]) -> Figure:
    """A point for each trial, side by side where many are alike."""
    figure = Figure()
    for model, own in models.items():
        figure.add_box(
            x=[model] * len(own),
            y=[row["ne"] for row in own],
            name=model,
            marker={"color": colour(model), "opacity": 0.75},
            **POINTS_ALONE,
            text=[f"trial {row['trial']}: {said(row)}" for row in own],
            hovertemplate="%{y:.4f}, %{text}<extra></extra>",
        )
    return titled(figure, "All trials", "", "validation NE")


def draw_best_so_far(models: dict[str, list[Row]]) -> Figure:
    """What more trials would have been worth."""
    figure = Figure()
    for model, own in models.items():
        own = sorted(own, key=lambda row: row["trial"])
        figure.add_scatter(
            x=list(range(1, len(own) + 1)),
            y=list(itertools.accumulate((row["ne"] for row in own), min)),
            name=model,
            line={"color": colour(model), "width": 2.5, "shape": "hv"},
            hovertemplate=f"{model}, %{{x}} trials: %{{y:.4f}}<extra></extra>",
        )
    legend(titled(figure, "The best of so many trials", "trials", "validation NE"))
    return figure.update_xaxes(rangemode="tozero")


def draw_curves(model: str, rows: Sequence[Row]) -> Figure:
    figure = Figure()
    for row in sorted(rows, key=lambda row: -row["ne"]):  # the best is drawn last, above the others
        best = row["ne"] == min(one["ne"] for one in rows)
        figure.add_scatter(
            x=[point["epoch"] + 1 for point in row["curve"]],
            y=[point["ne"] for point in row["curve"]],
            mode="lines+markers",
            marker={"size": 8 if best else 3},
            line={"color": colour(model) if best else "rgba(128,136,144,.45)", "width": 3 if best else 1.25},
            hovertemplate=f"trial {row['trial']}, epoch %{{x}}: %{{y:.4f}}<br>{said(row)}<extra></extra>",
        )
    return titled(figure, model, "epoch", "validation NE").update_xaxes(tickformat="d", rangemode="tozero")


def scale(values: Sequence[float]) -> tuple[float, float]:
    """All but the worst twentieth, so that a trial that failed does not flatten the others."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(0.95 * (len(ordered) - 1))]
    margin = 0.05 * (high - low) + 1e-4
    return low - margin, high + margin


def said(row: Row) -> str:
    return ", ".join(row["settings"]) or "the recipe as it is"


def colour(model: str) -> str:
    return COLOURS.get(model, GREY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("search.html"))
    arguments = parser.parse_args()
    if not arguments.rows.is_file():
        parser.error(f"There is no file {arguments.rows}. Search first: python -m experiments.ranking_search ml1m.")
    write_search_page(read_rows(arguments.rows), arguments.output)


if __name__ == "__main__":
    main()
