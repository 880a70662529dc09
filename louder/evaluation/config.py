"""How a run is measured, and by what its best epoch is chosen."""

from dataclasses import dataclass

import numpy as np

from louder.config import require_at_least, require_one_of
from louder.evaluation.retrieval_metrics import retrieval_metrics

RETRIEVAL_SELECTORS = tuple(retrieval_metrics(np.ones(1)))
RANKING_SELECTORS = "ne", "log_loss", "auc"  # of the main action


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    seen: str = (
        "window"  # items left out: those in the model's "window" (the official code), in the "history", or "none"
    )
    every_epochs: int = 1
    select: str = "ndcg@10"  # the metric that chooses the best epoch

    def __post_init__(self) -> None:
        require_at_least(1, "evaluation", self, "every_epochs")
        require_one_of(
            "evaluation", self, seen=("window", "history", "none"), select=(*RETRIEVAL_SELECTORS, *RANKING_SELECTORS)
        )
