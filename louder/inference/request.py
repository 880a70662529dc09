"""What is asked of a model, and what it answers: raw ids in, item numbers out."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from louder.ids import RawId


@dataclass(frozen=True, kw_only=True)
class History:
    """A history as it was stored: raw ids, oldest first.

    items     T raw ids
    times     [T] int64 seconds
    actions   [T] int64 bits, by `names`
    values    [T, V] float32 by `value_names`, NaN where absent
    requests  [T] int64, equal for items of one request, -1 = none
    key       what it is remembered under; None: it is not
    """

    items: np.ndarray
    times: np.ndarray
    actions: np.ndarray
    values: np.ndarray
    requests: np.ndarray
    names: tuple[str, ...] = ()
    value_names: tuple[str, ...] = ()
    key: Hashable | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of one history.

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
