"""Figures of a ranking run: its epochs, and how good its probabilities are in groups of exposures."""

from collections.abc import Sequence

import numpy as np

from louder.evaluation.ranking_slices import Estimate, Slice
from louder.reports.chart import Figure, legend, titled
from louder.reports.run import FinishedRun
from louder.reports.run_figures import add_line
from louder.reports.theme import BLUE, GREY


def draw_ne(run: FinishedRun) -> Figure | None:
    """NE of the main action on the part that chooses, and which epoch it chose."""
    name = f"{run.result['main']}.ne"
    rows = [row for row in run.rows("epoch") if name in row]
    if not rows:
        return None
    figure, epochs = Figure(), [row["epoch"] + 1 for row in rows]
    add_line(figure, epochs, [row[name] for row in rows], "epoch %{x}: NE %{y:.4f}")
    figure.add_vline(x=run.result["epoch"] + 1, line_dash="dot", line_color=GREY)
    title = f"NE of {run.result['main']} on the {rows[0]['part']} part"
    return titled(figure, title, "epoch (dotted: chosen)", "").update_xaxes(dtick=1 if len(rows) <= 10 else None)


def draw_calibration(action: str, found: Sequence[Slice]) -> Figure:
    """The share of positives over the mean probability of each group, and the line where the two are the same."""
    figure = Figure()
    top = max([x.share.high for x in found] + [x.predicted for x in found])
    add_line(figure, [0, top], [0, top], "", colour=GREY, width=1, name="as predicted", hoverinfo="skip")
    shares = [x.share for x in found]
    texts = [f"{x.exposures:,} exposures" for x in found]
    figure.add_scatter(
        x=[x.predicted for x in found],
        y=[share.value for share in shares],
        text=texts,
        mode="lines+markers",
        name="observed",
        line={"color": BLUE, "width": 2},
        error_y=bars(shares),
        hovertemplate="%{text}: predicted %{x:.4f}, happened %{y:.4f}<extra></extra>",
    )
    return legend(titled(figure, action, "mean probability", "share that happened"))


def draw_slices(title: str, axis: str, found: Sequence[Slice]) -> Figure:
    """NE of groups in their order; where it is not defined there is a gap."""
    figure, values = Figure(), [x.ne for x in found]
    figure.add_scatter(
        x=[x.name for x in found],
        y=[defined(value.value) for value in values],
        text=[f"{x.exposures:,} exposures, {x.share.value:.1%} positive" for x in found],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        error_y=bars(values),
        hovertemplate="%{x}: NE %{y:.4f}, %{text}<extra></extra>",
    )
    return titled(figure, title, axis, "NE").update_xaxes(type="category")


def bars(estimates: Sequence[Estimate]) -> dict[str, object]:
    """From the low to the high end of intervals."""
    above = [defined(x.high - x.value) for x in estimates]
    below = [defined(x.value - x.low) for x in estimates]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": BLUE, "thickness": 1}


def defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
