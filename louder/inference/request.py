"""What is asked of a model, and what it answers: raw ids in, item numbers out."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from louder.histories.history import History
from louder.ids import RawId


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of one history.

    key         what the KV cache of the history is kept under; None: it is not kept
    candidates  raw items to be ranked; None: those that retrieval finds
    k           items of the answer; of a ranking as many as there are candidates
    retrieve    candidates that retrieval gives to ranking; 0: the order of retrieval is the answer
    context     attributes of the user
    user        whose attributes are those of the training, where no context is given
    weights     of each action's probability in the score; empty: the main action alone
    diversity   0: by score alone, 1: by difference from what is above alone (Carbonell & Goldstein, 1998)
    """

    history: History
    at: int
    key: Hashable | None = None
    candidates: Sequence[RawId] | None = None
    k: int = 10
    retrieve: int = 500
    seen: bool = False
    allow: Sequence[RawId] | None = None
    deny: Sequence[RawId] = ()
    where: Mapping[str, Sequence[RawId]] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)
    user: RawId | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    diversity: float = 0.0


@dataclass
class Result:
    """An answer: item numbers [n], best first, their scores [n], and of a ranking probabilities [n, A] and values [n, V].

    read, skipped  events of the history that the model read, and those of items it does not know
    """

    items: np.ndarray
    scores: np.ndarray
    read: int
    skipped: int
    probabilities: np.ndarray | None = None
    values: np.ndarray | None = None


class Reason(NamedTuple):
    """The place of an event in the history, its share of the attention, and by how much the score would change without
    it."""

    row: int
    attention: float
    change: float
