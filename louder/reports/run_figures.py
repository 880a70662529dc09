"""Curves of the training and metrics by length of history, as plotly figures."""

from typing import Any

import numpy as np

from louder.data.inspect import BLUE, titled
from louder.reports.run import FinishedRun

ORANGE, PALE = "#c8701a", "rgba(47,109,181,.35)"
POINTS = 1000  # a curve of more is drawn as means of so many stretches


def training_figures(run: FinishedRun) -> list[Any]:
    """Loss, the metrics that chose the epoch, and speed; what the log has no rows of is left out."""
    drawn = [draw_loss(run), draw_selection(run), draw_speed(run)]
    return [figure for figure in drawn if figure is not None]


def draw_loss(run: FinishedRun) -> Any:
    import plotly.graph_objects as go

    steps, epochs = run.rows("step"), run.rows("epoch")
    if not steps and not epochs:
        return None
    figure = go.Figure()
    if steps:
        x, y = thinned([row["step"] for row in steps], [row["loss"] for row in steps])
        hover = "step %{x:,}: %{y:.4f}<extra></extra>"
        figure.add_scatter(x=x, y=y, name="step", mode=mode(x), line={"color": PALE, "width": 1.5}, hovertemplate=hover)
    if epochs:
        # the mean of an epoch stands in its middle, where the steps it is of are
        ends = [row["step"] for row in epochs]
        middles = [(begin + end) / 2 for begin, end in zip([0, *ends], ends)]
        figure.add_scatter(
            x=middles,
            y=[row["loss"] for row in epochs],
            name="mean of the epoch",
            mode=mode(epochs),
            line={"color": BLUE, "width": 2.5},
            text=[f"epoch {row['epoch'] + 1}" for row in epochs],
            hovertemplate="%{text}: %{y:.4f}<extra></extra>",
        )
    return legend(titled(figure, "Loss", "step", "training loss"))


def draw_selection(run: FinishedRun) -> Any:
    """HR@10 and NDCG@10 of the part that chooses, and which epoch it chose."""
    import plotly.graph_objects as go

    rows = [row for row in run.rows("epoch") if "part" in row]
    if not rows:
        return None
    epochs = [row["epoch"] + 1 for row in rows]
    figure = go.Figure()
    for name, label, colour in ("hr@10", "HR@10", BLUE), ("ndcg@10", "NDCG@10", ORANGE):
        hover = f"epoch %{{x}}: {label} %{{y:.4f}}<extra></extra>"
        values = [row[name] for row in rows]
        figure.add_scatter(
            x=epochs, y=values, name=label, mode=mode(rows), line={"color": colour, "width": 2.5}, hovertemplate=hover
        )
    chosen = run.result["epoch"] + 1
    figure.add_vline(x=chosen, line_dash="dot", line_color="#808890")
    figure.add_annotation(
        x=chosen,
        y=0,
        yref="paper",
        yanchor="bottom",
        xanchor="right" if chosen > np.mean(epochs) else "left",
        text=f" chosen: {chosen} ",
        showarrow=False,
    )
    figure.update_yaxes(rangemode="tozero")
    return legend(titled(figure, f"On the {rows[0]['part']} part", "epoch", ""))


def draw_speed(run: FinishedRun) -> Any:
    import plotly.graph_objects as go

    rows = run.rows("epoch")
    if not rows:
        return None
    figure = go.Figure(
        go.Scatter(
            x=[row["epoch"] + 1 for row in rows],
            y=[row["events_per_s"] for row in rows],
            mode=mode(rows),
            line={"color": BLUE, "width": 2.5},
            hovertemplate="epoch %{x}: %{y:,.0f} events/s<extra></extra>",
        )
    )
    figure.update_yaxes(rangemode="tozero")
    return titled(figure, "Speed of training", "epoch", "events a second")


def draw_by_length(run: FinishedRun) -> Any:
    """Bars of HR@10 and NDCG@10 for each group of users by the length of the history that the model was given."""
    import plotly.graph_objects as go

    groups = run.result["by_length"]
    labels = [f"{group['history']}<br>{group['users']:,} users" for group in groups]
    figure = go.Figure()
    for name, label, colour in ("hr@10", "HR@10", BLUE), ("ndcg@10", "NDCG@10", ORANGE):
        values = [group[name] for group in groups]
        hover = f"history %{{x}}: {label} %{{y:.4f}}<extra></extra>"
        figure.add_bar(
            x=labels,
            y=values,
            name=label,
            marker={"color": colour, "line": {"width": 0}},
            text=[f"{value:.3f}" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=hover,
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(type="category")
    return legend(titled(figure, "By length of the history given", "events", ""))


def thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points: means of equal stretches."""
    if len(x) <= POINTS:
        return x, y
    return tuple([float(part.mean()) for part in np.array_split(np.array(v, np.float64), POINTS)] for v in (x, y))  # type: ignore[return-value]


def mode(points: list[Any]) -> str:
    """A line through a single point could not be seen."""
    return "lines" if len(points) > 40 else "lines+markers"


def legend(figure: Any) -> Any:
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    )
    return figure
