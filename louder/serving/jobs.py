"""What the thread that computes is asked: jobs, what they cost, and a long one in slices."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

from louder.errors import InputError
from louder.ids import RawId
from louder.inference.request import Request
from louder.serving import messages as m
from louder.serving.tracing import Waiting
from louder.serving.variants import CONTROL
from louder.serving.wire import Json

# what a job costs, in candidates of a ranking; their proportions, and a few requests tell what a row takes
FEWEST_ROWS = 250  # of any: its history is compared and opened, and its answer is made
EXPLAINED_ROWS = 5_000
ROW_S = 1e-5  # of the first requests; then it is known
SLICE = 1_024  # items that a request ranks at once, so that others come between
MOST_ROWS = 4_096  # of one batch; beyond, a pass is only longer


@dataclass(frozen=True)
class Job:
    """What the thread that computes is asked."""

    request: Request
    similar_to: RawId | None = None  # items like this one are wanted, not those that the history calls for
    explain: bool = False  # with reasons for the first items
    attributes: bool = False  # with the attributes of the items
    variant: str = CONTROL  # whose model is asked
    previous: bool = False  # of the model before the live one
    waiting: Waiting | None = None  # where requests are traced


def rows_of(message: m.UserRequest | m.SimilarRequest) -> int:
    """What a request, or the longest slice of it, costs in candidates of a ranking."""
    rows = FEWEST_ROWS
    if isinstance(message, m.RankRequest):
        rows += min(SLICE, len(message.items))
    elif isinstance(message, m.RecommendRequest):
        ranked = max(message.retrieve, message.k) if message.retrieve else 0
        rows += ranked + message.k // 10 + EXPLAINED_ROWS * message.explain
    elif isinstance(message, m.RetrieveRequest | m.SimilarRequest):
        rows += message.k // 10
    if isinstance(message, m.UserRequest):
        rows += len(message.history or ()) + len(message.what_if)  # nothing of them is kept
    return rows


def is_long(message: m.UserRequest | m.SimilarRequest) -> bool:
    """Whether it is computed in slices, which let others go before them."""
    return isinstance(message, m.RankRequest) and len(message.items) > SLICE


def sliced(job: Job) -> list[Job]:
    """Of a ranking of many candidates, whose scores do not depend on each other, a job for each SLICE of them."""
    candidates = job.request.candidates
    if candidates is None or len(candidates) <= SLICE:
        return [job]
    slices = [candidates[n : n + SLICE] for n in range(0, len(candidates), SLICE)]
    return [replace(job, request=replace(job.request, candidates=x, k=len(x))) for x in slices]


async def outcome(answer: Awaitable[dict[str, Json]]) -> dict[str, Json] | InputError:
    try:
        return await answer
    except InputError as error:
        return error


def joined(parts: Sequence[tuple[Job, dict[str, Json] | InputError]]) -> dict[str, Json] | None:
    """The answers to slices as one: their lists follow each other, and the rest is the same in all; None where it is not,
    since they are of two models. A slice that is refused where others are not has no item that is known."""
    good = [part for _, part in parts if not isinstance(part, InputError)]
    if not good:
        raise next(part for _, part in parts if isinstance(part, InputError))
    lists: dict[str, Json] = {}
    for job, part in parts:
        named = {"unknown": list(job.request.candidates or ())} if isinstance(part, InputError) else part
        for name, value in named.items():
            if isinstance(value, list):
                lists[name] = [*before, *value] if isinstance(before := lists.get(name), list) else value
    return good[0] | lists if len({part["model"] for part in good}) == 1 else None
