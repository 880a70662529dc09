"""Figures of a run: curves of its training, and metrics by length of history."""

from collections.abc import Sequence

import numpy as np

from louder.reports.chart import Figure, legend, mode, titled
from louder.reports.run import FinishedRun
from louder.reports.theme import BLUE, GREY, ORANGE

POINTS = 1000  # a curve of more is drawn as means of so many stretches
DRAWN = ("hr@10", "HR@10", BLUE), ("ndcg@10", "NDCG@10", ORANGE)


def training_figures(run: FinishedRun) -> list[Figure]:
    """Loss, the metrics that chose the epoch, and speed; what the log has no rows of is left out."""
    drawn = [draw_loss(run), draw_selection(run), draw_speed(run)]
    return [figure for figure in drawn if figure is not None]


def draw_loss(run: FinishedRun) -> Figure | None:
    steps, epochs = run.rows("step"), run.rows("epoch")
    if not steps and not epochs:
        return None
    figure = Figure()
    if steps:
        x, y = thinned([row["step"] for row in steps]), thinned([row["loss"] for row in steps])
        add_line(figure, x, y, "step %{x:,}: %{y:.4f}", width=1.5, name="step", opacity=0.35)
    if epochs:
        # the mean of an epoch stands in its middle, where the steps it is of are
        ends = [row["step"] for row in epochs]
        middles = [(begin + end) / 2 for begin, end in zip([0, *ends], ends)]
        texts = [f"epoch {row['epoch'] + 1}" for row in epochs]
        losses = [row["loss"] for row in epochs]
        add_line(figure, middles, losses, "%{text}: %{y:.4f}", name="mean of the epoch", text=texts)
    return legend(titled(figure, "Loss", "step", "training loss"))


def draw_selection(run: FinishedRun) -> Figure | None:
    """HR@10 and NDCG@10 of the part that chooses, and which epoch it chose."""
    rows = [row for row in run.rows("epoch") if "part" in row]
    if not rows:
        return None
    epochs = [row["epoch"] + 1 for row in rows]
    figure = Figure()
    for name, label, colour in DRAWN:
        values, hover = [row[name] for row in rows], f"epoch %{{x}}: {label} %{{y:.4f}}"
        add_line(figure, epochs, values, hover, colour=colour, name=label)
    chosen = run.result["epoch"] + 1
    figure.add_vline(x=chosen, line_dash="dot", line_color=GREY)
    beside = "right" if chosen > np.mean(epochs) else "left"
    note = {"text": f" chosen: {chosen} ", "showarrow": False, "xanchor": beside, "yanchor": "bottom"}
    figure.add_annotation(x=chosen, y=0, yref="paper", **note)
    return legend(by_epoch(titled(figure, f"On the {rows[0]['part']} part", "epoch", ""), len(rows)))


def draw_speed(run: FinishedRun) -> Figure | None:
    rows = run.rows("epoch")
    if not rows:
        return None
    figure = Figure()
    epochs, speeds = [row["epoch"] + 1 for row in rows], [row["events_per_s"] for row in rows]
    add_line(figure, epochs, speeds, "epoch %{x}: %{y:,.0f} events/s")
    return by_epoch(titled(figure, "Speed of training", "epoch", "events a second"), len(rows))


def draw_by_length(run: FinishedRun) -> Figure:
    """Bars of HR@10 and NDCG@10 for each group of users by the length of the history that the model was given."""
    groups = run.result["by_length"]
    figure = Figure()
    for name, label, colour in DRAWN:
        values = [group[name] for group in groups]
        figure.add_bar(
            x=[f"{group['history']}<br>{group['users']:,} users" for group in groups],
            y=values,
            name=label,
            marker={"color": colour, "line": {"width": 0}},
            text=[f"{value:.3f}" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"history %{{x}}: {label} %{{y:.4f}}<extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.3).update_xaxes(type="category")
    return legend(titled(figure, "By length of the history given", "events", ""))


def add_line(
    figure: Figure,
    x: Sequence[float],
    y: Sequence[float],
    hover: str,
    *,
    colour: str = BLUE,
    width: float = 2.5,
    **style: str | float | Sequence[str],
) -> None:
    line, hovertemplate = {"color": colour, "width": width}, f"{hover}<extra></extra>"
    figure.add_scatter(x=x, y=y, mode=mode(x), line=line, hovertemplate=hovertemplate, **style)


def by_epoch(figure: Figure, epochs: int) -> Figure:
    """Heights from 0 up; a few epochs are numbered one by one, for there is none between them."""
    return figure.update_yaxes(rangemode="tozero").update_xaxes(dtick=1 if epochs <= 10 else None)


def thinned(values: Sequence[float]) -> Sequence[float]:
    """At most POINTS points: means of equal stretches."""
    if len(values) <= POINTS:
        return values
    return [float(part.mean()) for part in np.array_split(np.array(values, np.float64), POINTS)]
