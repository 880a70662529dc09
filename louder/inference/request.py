"""What is asked of a model, and what it answers: raw ids in, ids of the model out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from louder.data.table import Table
from louder.data.window import action_bits
from louder.errors import InputError
from louder.histories.history import History, Names
from louder.ids import RawId
from louder.inference.new_items import NewItems


class TableUser(NamedTuple):
    """The history of a user of a sequence table, by number: what a model was trained on, entries of series included.

    tokens  its first so many alone; None: all
    """

    table: Table
    user: int
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Boost:
    """Items whose scores count `factor` times: those named, or those that have these values of attributes."""

    factor: float
    items: Sequence[RawId] = ()
    where: Mapping[str, Sequence[RawId]] = field(default_factory=dict)


class Pin(NamedTuple):
    """An item that stands at a position of the answer, 1 the first, whatever its score is."""

    item: RawId
    position: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of one history.

    at          seconds since 1970, the time of the request: later events are not read. None: that of the latest
    user        raw id: attributes (where no context is given) and vectors are those of the training, and the KV cache is
                kept for the next request of the same user. None: somebody unknown
    candidates  raw items to be ranked; None: those that retrieval finds. Those of which nothing is known are left out
    new_items   what is known of candidates that the model has not met; None: there are none
    k           items of the answer; of a ranking as many as there are candidates
    retrieve    candidates that retrieval gives to ranking, and of which the stages after it choose; 0: the order of
                retrieval is the answer
    next_by     an action of ranking.next_item_by: the next item that it happens with is found; "": any next item
    seen        whether items of the history may be found, also of what is later than the request; None: as the run that
                retrieves was evaluated, see Run.shows_seen
    popular     whether an empty history is answered with what is popular, or refused
    allow, deny, where  items that alone may be found, that may not, and values of attributes that they must have
    context     attributes of the user
    weights     of each action's probability in the score; empty: the main action alone
    boost       scores that count more or less, see reranking.boosted
    cap         at most so many items with each value of an attribute
    diversity   0: by score alone, 1: by difference from what is above alone
    explore     a position in so many, on average, is drawn from what comes next in the list; 0: none. Where caps, diversity or
                pins arrange the list, none is either
    seed        of what is drawn: the same request with the same seed draws the same
    pin         items at positions of their own, also where retrieval did not find them, or they were seen or filtered out
                by `allow` or `where`; never those of `deny`
    """

    history: History | TableUser
    at: int | None = None
    user: RawId | None = None
    candidates: Sequence[RawId] | None = None
    new_items: NewItems | None = None
    k: int = 10
    retrieve: int = 500
    next_by: str = ""
    seen: bool | None = None
    popular: bool = True
    allow: Sequence[RawId] | None = None
    deny: Sequence[RawId] = ()
    where: Mapping[str, Sequence[RawId]] = field(default_factory=dict)
    context: Mapping[str, object] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    boost: Sequence[Boost] = ()
    cap: Mapping[str, int] = field(default_factory=dict)
    diversity: float = 0.0
    explore: int = 0
    seed: str = ""
    pin: Sequence[Pin] = ()


@dataclass
class Result:
    """An answer: ids of items [n], best first, their scores [n], and of a ranking probabilities [n, A] and values [n, V].

    read, skipped  events of the history that the model read, and those of items it does not know
    temperature    scores / temperature are logits of the item that comes next; None: scores are no logits
    short          why there are fewer than k; "" where there are not
    next           [n] of two stages: the probability that an item comes next, given that one of the candidates does
    raws           [n] raw ids of candidates that were given: an item that the model does not know has id -1
    unknown        items that were asked for, and of which nothing is known
    unavailable    and those that are not to be had
    sources        [n] tuples of names: which sources found it; None: the run's retrieval is the only one
    propensities   [n] the probability with which an item was put there, given those above; None: nothing was drawn
    """

    items: np.ndarray
    scores: np.ndarray
    read: int
    skipped: int
    probabilities: np.ndarray | None = None
    values: np.ndarray | None = None
    temperature: float | None = None
    short: str = ""
    next: np.ndarray | None = None
    raws: Sequence[RawId] | None = None
    unknown: Sequence[RawId] = ()
    unavailable: Sequence[RawId] = ()
    sources: np.ndarray | None = None
    propensities: np.ndarray | None = None


class Attribution(NamedTuple):
    """The row of an event in the history, its share of the attention, and by how much the score would change without
    it."""

    row: int
    attention: float
    change: float


@dataclass(frozen=True)
class Event:
    """One event of a history: a raw item id, seconds since 1970, the names of the actions that happened, values by name,
    and what the items of one request have in common."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}  # where it comes from JSON

    item: RawId
    time: int
    actions: Sequence[str] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    request: str | None = None


class AnyEvent(Protocol):
    """What has the fields of an Event."""

    @property
    def item(self) -> RawId: ...
    @property
    def time(self) -> int: ...
    @property
    def actions(self) -> Sequence[str]: ...
    @property
    def values(self) -> Mapping[str, float]: ...
    @property
    def request(self) -> str | None: ...


def history_of(events: Iterable[AnyEvent], names: Names) -> History:
    """Events in any order, as columns. Raises InputError for an action or a value that has no name there."""
    ordered = sorted(events, key=lambda event: event.time)
    values = np.full((len(ordered), len(names.values)), np.nan, np.float32)
    for row, event in enumerate(ordered):
        for name, value in event.values.items():
            if name not in names.values:
                known = ", ".join(names.values) or "none"
                raise InputError(f"There is no value {name!r}; the model knows {known}.")
            values[row, names.values.index(name)] = value
    items = np.empty(len(ordered), dtype=object)
    items[:] = [event.item for event in ordered]
    numbers = {request: n for n, request in enumerate(dict.fromkeys(event.request for event in ordered))}
    numbers[None] = -1
    return History(
        items=items,
        times=np.array([event.time for event in ordered], dtype=np.int64),
        actions=np.array([action_bits(event.actions, names.actions) for event in ordered], dtype=np.int64),
        values=values,
        requests=np.array([numbers[event.request] for event in ordered], dtype=np.int64),
        names=names,
    )
