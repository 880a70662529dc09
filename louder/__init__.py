"""Generative recommenders: from raw interaction logs to recommendations."""

from typing import TYPE_CHECKING

from louder.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from louder.inference.recommender import Recommender

__all__ = ["__version__", "load"]


def load(run: "Path | str", table: "Path | str | None" = None) -> "Recommender":
    """Load the best checkpoint of a run: `louder.load("runs/demo").recommend(user=42, k=10)`, or of a ranking run:
    `louder.load("runs/rank").rank(user=42, items=[1, 2, 3])`."""
    from louder.inference.recommender import Recommender  # torch is heavy, and `louder --help` needs none of it

    return Recommender(run, table)
