"""What goes over the wire. Strict: unknown fields, NaN, integers beyond 64 bits and wrong types are refused with 422.

Times are seconds since 1970 (UTC). Item and user ids are the raw ones of the log: integers or texts.
"""

import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from louder.histories.times import wrong_time
from louder.inference.limits import MAX_CANDIDATES, MOST_VALUES

MAX_ID = 200  # characters
MAX_EVENTS = 1_000  # of one request
MOST_BOOSTED = 1_000  # items that one boost names
MAX_BATCH = 100  # requests in one
MAX_ITEMS = 1_000  # of which one request says something
MAX_WHAT_IF = 100  # events of a request that are only thought of


def past(seconds: int) -> int:
    """Of events and requests alike: a time that is not yet is mostly another unit."""
    if wrong := wrong_time(seconds, time.time()):
        raise PydanticCustomError("time", "{wrong}", {"wrong": wrong.removesuffix(".")})
    return seconds


Name = Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID)]
Integer = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
Id = Integer | Name
Time = Annotated[StrictInt, Field(ge=0), AfterValidator(past)]
Value = Annotated[float, Field(ge=-1e15, le=1e15, strict=True)]  # its square fits into 32 bits
Weight = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]
Scalar = Annotated[StrictStr, Field(max_length=1_000)] | StrictBool | Integer | Value
Attributes = dict[Name, Scalar | Annotated[list[Scalar], Field(max_length=4_096)] | None]
Values = Annotated[list[Id], Field(max_length=MOST_VALUES)]
Candidates = Annotated[StrictInt, Field(ge=1, le=MAX_CANDIDATES)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventIn(Message):
    """Something that a user did with an item."""

    item: Id
    time: Time
    actions: list[Name] = Field(default=[], max_length=63, description="Names of the actions that happened.")
    values: dict[Name, Value] = Field(default={}, max_length=16, description="Such as seconds watched.")
    request: Name | None = Field(default=None, description="Items of one request never see each other's actions.")


class NewEvent(EventIn):
    """An event for the store. Sent again with the same id it is not stored twice."""

    user: Id
    id: Name


class Timely(Message):
    """For how long the answer is worth something."""

    deadline: Annotated[StrictInt, Field(ge=1, le=600_000)] | None = Field(
        default=None,
        description="Milliseconds after which the answer is worth nothing. A request that cannot be answered in time is "
        "refused at once (429), and one whose time is over is not computed (504).",
    )


class UserRequest(Timely):
    """Who asks: a user of the store, or a history that comes with the request; one of the two."""

    user: Id | None = None
    history: list[EventIn] | None = Field(default=None, max_length=MAX_EVENTS)
    what_if: list[EventIn] = Field(
        default=[],
        max_length=MAX_WHAT_IF,
        description="Events that are added to the user's history for this answer alone; nothing of them is stored.",
    )
    context: dict[Name, Id | None] = Field(
        default={}, max_length=64, description="Attributes of the user; empty: those that the training knew."
    )
    at: Time | None = Field(default=None, description="Time of the request; by default now.")
    model: Literal["live", "previous"] = Field(
        default="live", description="`previous`: what rollback would bring back."
    )


class Filters(Message):
    """Which items may be in the answer."""

    seen: StrictBool | None = Field(
        default=None,
        description="Also items that the user ever had, or of the history that came with the request. By default as the "
        "run was evaluated, see `seen` of /v1/model.",
    )
    allow: list[Id] | None = Field(default=None, max_length=MAX_CANDIDATES, description="Only these items.")
    deny: list[Id] = Field(default=[], max_length=MAX_CANDIDATES, description="None of these items.")
    where: dict[Name, Values] = Field(
        default={}, max_length=16, description='Attributes and the values they may have: {"genres": ["Drama"]}.'
    )


class BoostIn(Message):
    """Items whose scores count `factor` times: those named, or those that have these values of attributes."""

    factor: Annotated[float, Field(ge=1e-6, le=1e6, strict=True)]
    items: list[Id] = Field(default=[], max_length=MOST_BOOSTED)
    where: dict[Name, Values] = Field(default={}, max_length=16)


class PinIn(Message):
    """An item that stands at a position of the answer, whatever its score is."""

    item: Id
    position: Annotated[StrictInt, Field(ge=1, le=1_000, description="1 is the first.")]


class RetrieveRequest(UserRequest, Filters):
    k: Candidates = 100


class NewItem(Message):
    """An item that the model may not know, and what is known of it: values and vectors by the names of the training."""

    item: Id
    attributes: Attributes = Field(default={}, max_length=64)


class ItemIn(NewItem):
    """What changes of an item; what is not given stays. An attribute that is null is again what the training knew."""

    title: Annotated[StrictStr, Field(max_length=1_000)] | None = None
    available: StrictBool | None = Field(default=None, description="false: out of all answers, until it is true again.")


class ItemUpdates(Message):
    items: list[ItemIn] = Field(min_length=1, max_length=MAX_ITEMS)


class RankRequest(UserRequest):
    items: list[Id] = Field(
        min_length=1, max_length=MAX_CANDIDATES, description="Those of which nothing is known are left out, and named."
    )
    new_items: list[NewItem] = Field(
        default=[], max_length=MAX_ITEMS, description="What is known of candidates that the model may not have met."
    )


class RecommendRequest(UserRequest, Filters):
    k: Annotated[StrictInt, Field(ge=1, le=1_000)] = 10
    retrieve: Annotated[StrictInt, Field(ge=0, le=MAX_CANDIDATES)] = Field(
        default=500, description="Candidates that the first stage gives the second; 0: the order of the first."
    )
    weights: dict[Name, Weight] = Field(
        default={},
        max_length=64,
        description="Weight of each action's probability in the score; by default the main action alone.",
    )
    boost: list[BoostIn] = Field(default=[], max_length=16, description="Scores that count more, or less.")
    cap: dict[Name, Annotated[StrictInt, Field(ge=1, le=1_000)]] = Field(
        default={}, max_length=16, description='At most so many items with each value of an attribute: {"genres": 3}.'
    )
    diversity: Annotated[float, Field(ge=0, le=1, strict=True)] = Field(
        default=0.0, description="0: by score alone. 1: by difference from what is above alone (MMR over item vectors)."
    )
    pin: list[PinIn] = Field(default=[], max_length=100, description="Items at positions of their own.")
    explain: StrictBool = Field(default=False, description="Say for each item which past events it leans on.")


class SimilarRequest(Timely, Filters):
    item: Id
    k: Annotated[StrictInt, Field(ge=1, le=1_000)] = 10


class EventsRequest(Message):
    events: list[NewEvent] = Field(min_length=1, max_length=MAX_EVENTS)


class Reason(Message):
    """A past event that an item leans on."""

    item: Id
    title: str
    time: int
    attention: float = Field(
        description="Share of the attention of the item's token, or in retrieval of the last event, over layers and heads."
    )
    without: float | None = Field(
        description="Change of the score when the event is left out; null: nothing is left then."
    )


class Scored(Message):
    """An item of an answer. Scores compare within one answer only."""

    item: Id
    title: str
    score: float
    next: float | None = Field(
        default=None,
        description="Of two stages: the probability that it comes next, given that one of the candidates does.",
    )
    sources: list[str] = Field(default=[], description="Which sources of candidates found it, where there are several.")
    actions: dict[str, float] = Field(default={}, description="Probability of each action, if it does.")
    values: dict[str, float] = Field(default={}, description="Expected values.")
    attributes: dict[str, list[str]] = Field(default={}, description="Attributes of the item.")
    image: str = Field(default="", description="Address of a picture, from the item's column `image` or `poster`.")
    propensity: float | None = Field(
        default=None,
        description="Where the service explores: the probability that it was put there, given what is above.",
    )
    reasons: list[Reason] = []


class Answer(Message):
    """The answer of /v1/recommend, /v1/rank, /v1/retrieve and /v1/similar."""

    items: list[Scored]
    model: str = Field(description="Version of the one model that computed all of the answer.")
    variant: str = Field(default="", description="Where several models are compared: which of them answers this user.")
    history: int = Field(description="Events of the history that were read.")
    skipped: int = Field(description="Events of the history whose items the model does not know.")
    short: str = Field(default="", description="Why there are fewer items than were asked for.")
    unknown: list[Id] = Field(default=[], description="Items of the request of which nothing is known.")
    unavailable: list[Id] = Field(default=[], description="Items of the request that are not to be had.")
    request: str = Field(
        default="",
        description="Where answers are logged: what events name as their `request` that come of this one.",
    )
    milliseconds: float


class EventsAnswer(Message):
    stored: int
    duplicates: int = Field(description="Events whose id was stored before.")
    deleted: int = Field(default=0, description="Events not stored, since they or their user were deleted before.")
    logged: int = Field(
        default=0, description="Events that the log has, and the store gets as soon as it can be reached again."
    )


class DeletedUser(Message):
    user: Id
    events: int = Field(description="Events that were deleted, and are known of no more.")


class DeletedEvent(Message):
    """In whichever order an event and its deletion come, the event is not there after both."""

    deleted: bool = Field(description="Whether the event was there; it is gone now.")
    known: bool = Field(
        description="Whether its id had been stored. false: never, or more than 2,000 events of the user ago."
    )


class ItemsStored(Message):
    stored: int = Field(description="Items of which something is kept now.")
    unknown: list[Id] = Field(description="Those that the live model has not met.")


class ItemAnswer(Message):
    item: Id
    title: str
    attributes: dict[str, list[str]]
    available: bool
    known: bool = Field(description="Whether the live model has met it.")


class BatchRequest(Message):
    """Requests of their own: a mistake of one is its own answer."""

    requests: list[dict[str, JsonValue]] = Field(
        min_length=1, max_length=MAX_BATCH, description="Each as a RecommendRequest."
    )


class Mistake(Message):
    """What one of several requests was answered in place of items."""

    status: int = Field(description="Such as that of the request alone.")
    error: str


class BatchAnswer(Message):
    answers: list[Answer | Mistake] = Field(description="In the order of the requests.")
    milliseconds: float


class PastEvent(Message):
    item: Id
    title: str
    time: int
    actions: list[str]
    values: dict[str, float]


class HistoryAnswer(Message):
    user: Id
    events: list[PastEvent] = Field(description="Oldest first.")
    total: int = Field(description="Events in the store, of which the latest are shown.")


class UsersAnswer(Message):
    """Some users of the store, for a page that lets one pick."""

    users: list[Id]


class ItemView(Message):
    """An item as a page shows it."""

    item: Id
    title: str
    attributes: dict[str, list[str]] = {}
    image: str = ""


class ItemsAnswer(Message):
    """Items whose title holds a text, those that begin with it first, then by popularity."""

    items: list[ItemView]


class UserView(Message):
    """A line about a user, so that a stranger can choose one."""

    user: Id
    total: int = Field(description="Events ever stored of the user.")
    favourites: list[str] = Field(
        description="Values of the items' first attribute that the user meets more often than others do; the most telling first."
    )
    latest: ItemView | None = Field(description="Of the latest event.")


class SampleAnswer(Message):
    """Some users of the store, as different from each other as a small sample of it has them."""

    users: list[UserView]


class ItemUsersAnswer(Message):
    """Users with an event of an item, the latest first, out of a sample of the store."""

    item: ItemView
    users: list[UserView]
    sample: int = Field(description="Users of the sample that was looked through.")


class HealthAnswer(Message):
    ok: bool


class ReadyAnswer(Message):
    ok: bool
    model: str = Field(description="Version of the model that answers.")


class VariantView(Message):
    """One of several models that are compared."""

    name: str
    share: float = Field(description="Of the users.")
    run: str
    sources: list[str] = Field(description="Of candidates, which the control does not have.")
    version: str
    refused: str | None = Field(description="Why the checkpoint published last was not taken.")


class ModelAnswer(Message):
    version: str
    previous: str | None = Field(description="What rollback would bring back.")
    name: str
    kind: str
    ranker: str | None = Field(description="Kind of the model that ranks; null: the order of retrieval is the answer.")
    actions: list[str]
    values: list[str]
    main: str | None = Field(description="The action that scores by default.")
    next_weight: float | None = Field(description="Of two stages: the score is P(next) to this power, times worth.")
    sources: list[str] = Field(description="Of candidates, besides the run's retrieval.")
    items: int
    attributes: dict[str, list[str]] = Field(
        description="Attributes of items that can be filtered by, and their values."
    )
    context: dict[str, list[str]] = Field(description="Attributes of users, and their values.")
    window: int = Field(description="Latest events that are read.")
    seen: bool = Field(description="Whether a request that does not say so is answered with seen items, too.")
    refused: str | None = Field(description="Why the checkpoint published last was not taken.")
    variants: list[VariantView] = Field(
        default=[], description="Of an A/B test; the first is the control, of which the rest of this tells."
    )


class StatsAnswer(Message):
    """The last minute, by this process alone."""

    seconds: list[int] = Field(description="Each second, Unix time, oldest first.")
    requests: list[int] = Field(description="Requests answered in each of them.")
    p50_ms: float = Field(description="Of the latest 1,000 requests.")
    p99_ms: float
    in_flight: int
    cached_histories: int


class Problem(Message):
    """Every error: what was found, what was needed."""

    error: str
    request: str = Field(description="Id of the request, as in the log.")
