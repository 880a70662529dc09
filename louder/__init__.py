"""Generative recommenders: from raw interaction logs to recommendations.

    import louder

    log = louder.log(df, user="customer", item="sku", time="bought_at")
    run = louder.train(log)
    run.recommend(users=[42, 43], k=10)

What is named here is imported when it is first used: torch is heavy, and `louder --help` needs none of it.
"""

import importlib
from typing import TYPE_CHECKING

from louder.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from louder.api.log import Log, log
    from louder.api.measured import Measured, ReportPage
    from louder.api.run import TrainedRun
    from louder.api.streams import stream
    from louder.api.training import open_run as open
    from louder.api.training import train
    from louder.errors import InputError
    from louder.inference.recommender import Recommender
    from louder.inference.request import Boost, Event

__all__ = [
    "Boost",
    "Event",
    "InputError",
    "Log",
    "Measured",
    "ReportPage",
    "TrainedRun",
    "__version__",
    "load",
    "log",
    "open",
    "stream",
    "train",
]

WHERE = {
    "Boost": "louder.inference.request",
    "Event": "louder.inference.request",
    "InputError": "louder.errors",
    "Log": "louder.api.log",
    "Measured": "louder.api.measured",
    "ReportPage": "louder.api.measured",
    "TrainedRun": "louder.api.run",
    "log": "louder.api.log",
    "open": "louder.api.training",
    "stream": "louder.api.streams",
    "train": "louder.api.training",
}


if not TYPE_CHECKING:  # a checker knows the names above, and refuses others

    def __getattr__(name: str) -> object:
        if name not in WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(WHERE[name]), {"open": "open_run"}.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *WHERE})


def load(run: "Path | str", table: "Path | str | None" = None) -> "Recommender":
    """Load the best checkpoint of a run: `louder.load("runs/demo").recommend(user=42, k=10)`, or of a ranking run:
    `louder.load("runs/rank").rank(user=42, items=[1, 2, 3])`."""
    from louder.inference.recommender import Recommender

    return Recommender(run, table)
