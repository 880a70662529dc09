"""The final score of a recommendation: how likely an item comes next, and what that would be worth.

A ranker is trained on what was engaged with, so it knows what happens *given* that an item is engaged with, and nothing of
whether it is: alone it puts items first that hardly anybody would look at. Retrieval knows the other half. Together, with
worth = the sum of each action's probability times its weight:

    score = P(next)^weight x worth

With both calibrated and a weight of 1 it is the expected worth of showing the item. A ranker that was trained on what people
were shown knows more of the first half itself, so the weight is chosen on the validation part and kept with the ranker's
checkpoint (louder.evaluation.calibration, `louder calibrate`).
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from louder import checkpoint
from louder.config import from_dict
from louder.errors import InputError
from louder.folders import write_text
from louder.inference.run import SCORING, Run


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How two stages become one score.

    temperature  retrieval's scores are divided by it before the softmax
    weight       of P(next), as its exponent; 0: the ranker's order alone
    retrieval    the fingerprint of the checkpoint that finds the candidates, "" where nothing was chosen
    chosen       what it was chosen from, and on how many events
    """

    temperature: float = 1.0
    weight: float = 1.0
    retrieval: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)

    def next(self, logits: Tensor) -> Tensor:
        """[n] log P(next) of candidates, given that one of them comes next; logits [n] are retrieval's scores"""
        return torch.log_softmax(logits.double() / self.temperature, dim=-1)

    def score(self, log_next: Tensor, worth: Tensor) -> Tensor:
        """[n] float64 of log_next [n] and worth [n], which may be below zero: then what is likely next is worst"""
        return torch.exp(self.weight * log_next) * worth.double()


def scoring_of(retrieval: Run, ranking: Run) -> Scoring:
    """What was chosen for these two; where nothing was, the temperature of training and a weight of 1. Raises InputError if
    the file is damaged."""
    file = ranking.folder / SCORING
    if file.is_file():
        try:
            found = from_dict(Scoring, json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise InputError(f"{file} is damaged. Make it again: {command(retrieval, ranking)}.") from error
        if found.retrieval == checkpoint.fingerprint(retrieval.folder):
            return found
    return Scoring(temperature=retrieval.temperature)


def not_chosen(retrieval: Run, ranking: Run | None, scoring: Scoring) -> str:
    """A line for who serves two stages whose score nobody chose; "" where there is nothing to say."""
    if ranking is None or not retrieval.retrieves or scoring.chosen:
        return ""
    return (
        f"How {ranking.path.name} weighs P(next) was not chosen on validation, so the weight is 1. Choose it: "
        f"{command(retrieval, ranking)}."
    )


def command(retrieval: Run, ranking: Run) -> str:
    """That chooses for these two."""
    beside = "" if ranking.path == retrieval.path else f" --ranker {ranking.path}"
    return f"louder calibrate {retrieval.path}{beside}"


def keep(scoring: Scoring, ranking: Run) -> None:
    """Put it beside the ranker's weights, in one step."""
    write_text(ranking.folder / SCORING, json.dumps(asdict(scoring), indent=1) + "\n")
