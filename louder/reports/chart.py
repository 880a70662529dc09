"""What the figures of all pages share. The page's script gives them its colours, light or dark, when it draws them."""

from collections.abc import Sequence, Sized

import numpy as np

from louder.errors import missing_extra
from louder.reports.theme import BLUE

try:
    from plotly.graph_objects import Figure as Figure
except ModuleNotFoundError as error:
    raise missing_extra("plotly", "report") from error


def titled(figure: Figure, title: str, x: str, y: str) -> Figure:
    """The title becomes the figure's heading on the page; `x` and `y` are written along the axes."""
    return figure.update_layout(title={"text": title}, xaxis_title=x, yaxis_title=y, showlegend=False)


def legend(figure: Figure) -> Figure:
    return figure.update_layout(
        showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    )


def mode(points: Sized) -> str:
    """A line through a single point could not be seen."""
    return "lines" if len(points) > 40 else "lines+markers"


def histogram(edges: np.ndarray, heights: np.ndarray, texts: Sequence[str], what: str) -> Figure:
    """Heights [n] over edges [n + 1] on a log axis, drawn as one area, since bars would need a width each."""
    figure = Figure()
    figure.add_scatter(
        x=np.repeat(edges, 2).tolist(),
        y=[0, *np.repeat(heights, 2).tolist(), 0],
        mode="lines",
        line={"color": BLUE, "width": 1},
        fill="tozeroy",
        hoverinfo="skip",
    )
    # unseen points in the middle of the bars, to hover over
    middles, hover = (
        np.sqrt(edges[:-1] * edges[1:].astype(float)).tolist(),
        f"%{{text}}: %{{y:,}} {what}<extra></extra>",
    )
    unseen = {"mode": "markers", "marker": {"opacity": 0}}
    figure.add_scatter(x=middles, y=heights.tolist(), text=list(texts), hovertemplate=hover, **unseen)
    return figure.update_xaxes(type="log")
