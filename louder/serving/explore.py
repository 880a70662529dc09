"""For a stranger before the page, who knows no ids: some users with a line about each, items by title, users by item.

What this costs is bounded, however many ask: a sample of the store is read at most once a minute, and answers come from
it.
"""

import asyncio
import random
import string
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import FastAPI, Path, Query
from fastapi.responses import Response

from louder.histories import HistoryStore, StoreDamaged
from louder.histories.history import History, empty_history
from louder.ids import RawId
from louder.inference.catalogue import Catalogue
from louder.serving import messages as m
from louder.serving.items import found_in
from louder.serving.openapi import answers
from louder.serving.paths import ITEM
from louder.serving.service import Service
from louder.serving.views import plain, shown_of
from louder.serving.wire import Json, answer

SAMPLE = 500  # users of the store that are looked at
EVERY_S = 60.0
BEGINNINGS = ("", *string.digits, *string.ascii_letters)  # of ids, so that a sample is not only the first ones
FEW = 5  # events; users with fewer are shown only where there are no others
FAVOURITES = 2


@dataclass(frozen=True)
class Sample:
    """U users and what they did, L events end to end.

    latest      raw item of each user's latest event
    totals      events ever stored of each
    items       [L] raw ids
    times       [L] int64 seconds
    owners      [L] int64 place of the user
    favourites  values of the first attribute that each meets more often than the others do, the most telling first
    """

    users: list[RawId]
    latest: list[RawId]
    totals: list[int]
    items: np.ndarray
    times: np.ndarray
    owners: np.ndarray
    favourites: list[list[str]]

    def choose(self, count: int, draw: random.Random) -> list[int]:
        """Places of some users: at random, but such that favourites repeat late."""
        long = [n for n, total in enumerate(self.totals) if total >= FEW]
        places = long if len(long) >= count else list(range(len(self.users)))
        draw.shuffle(places)
        had: Counter[str] = Counter()
        turns = []
        for n in places:
            favourite = self.favourites[n][0] if self.favourites[n] else ""
            turns.append((had[favourite], n))
            had[favourite] += 1
        return [n for _, n in sorted(turns, key=lambda turn: turn[0])[:count]]

    def with_item(self, item: RawId, count: int) -> list[int]:
        """Places of users with an event of an item, the latest first."""
        rows = np.flatnonzero(self.items == item)
        rows = rows[np.argsort(-self.times[rows], kind="stable")]
        return list(dict.fromkeys(self.owners[rows].tolist()))[:count]


NONE = np.zeros(0, np.int64)
EMPTY = Sample([], [], [], NONE, NONE, NONE, [])


def sample_of(store: HistoryStore, catalogue: Catalogue, draw: random.Random) -> Sample:
    found = list(dict.fromkeys(user for start in BEGINNINGS for user in store.users(start, SAMPLE // 10)))
    some = draw.sample(found, min(SAMPLE, len(found)))
    known = [(user, history) for user in some if len(history := whole(store, user))]
    lengths = [len(history) for _, history in known]
    owners = np.repeat(np.arange(len(known)), lengths)
    raws = [plain(item) for _, history in known for item in history.items]
    return Sample(
        users=[user for user, _ in known],
        latest=[plain(history.items[-1]) for _, history in known],
        totals=[max(history.total, len(history)) for _, history in known],
        items=np.array(raws, dtype=object),
        times=np.concatenate([NONE, *(history.times for _, history in known)]),
        owners=owners,
        favourites=favourites(catalogue, catalogue.item_ids.ids(raws), owners, len(known)),
    )


def whole(store: HistoryStore, user: RawId) -> History:
    """The history of a user; of one whose record is damaged nothing, since the others are to be shown still."""
    try:
        return store.history(user)
    except StoreDamaged:
        return empty_history()


def favourites(catalogue: Catalogue, items: np.ndarray, owners: np.ndarray, users: int) -> list[list[str]]:
    """Of each user: by share × log(share / share among all), so that what everybody meets tells nothing."""
    attribute = next(iter(catalogue.attributes.values()), None)
    if attribute is None or not users:
        return [[] for _ in range(users)]
    there = items >= 0
    offsets, codes = attribute.offsets.numpy(), attribute.codes.numpy()
    starts, lengths = offsets[items[there]], np.diff(offsets)[items[there]]
    rows = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    counts = np.zeros((users, attribute.size))
    np.add.at(counts, (np.repeat(owners[there], lengths), codes[rows]), 1)
    counts[:, 0] = 0  # of what has no value
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    common = counts.sum(0) / max(1.0, counts.sum())
    telling = shares * np.log(np.where(shares > 0, shares, 1) / np.where(common > 0, common, 1))
    best = np.argsort(-telling, axis=1, kind="stable")[:, :FAVOURITES]
    return [[attribute.labels[c] for c in own if telling[n, c] > 0] for n, own in enumerate(best.tolist())]


def by_title(catalogue: Catalogue, text: str, limit: int) -> list[RawId]:
    """Items whose title holds a text, also of one that was told since the training: those that begin with it first, then
    by popularity."""
    told, columns, popularity = catalogue.updates.titles, catalogue.columns, catalogue.popularity
    rows, begins = holding(told.texts, text)
    raws, items = [told.raws[row] for row in rows.tolist()], told.items[rows]
    if columns is not None and "title" in columns.column_names:
        trained, own = holding(columns.column("title"), text)
        still = ~np.isin(trained, told.items) & catalogue.item_ids.there[trained]
        items, begins = np.concatenate([items, trained[still]]), np.concatenate([begins, own[still]])
        raws += catalogue.item_ids.raws(trained[still])
    counts = np.zeros(len(items)) if popularity is None else np.where(items >= 0, popularity[items], 0)
    return [raws[place] for place in np.lexsort((-counts, ~begins))[:limit].tolist()]


def holding(titles: pa.Array | pa.ChunkedArray, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] of the titles that hold a text, and [n] bool, whether they begin with it."""
    holds = pc.fill_null(pc.match_substring(titles, text, ignore_case=True), False)
    rows = np.flatnonzero(holds.to_numpy(zero_copy_only=False))
    begins = pc.starts_with(titles.take(pa.array(rows)), text, ignore_case=True)
    return rows, begins.to_numpy(zero_copy_only=False)


class Explorer:
    """Answers from a sample that is read anew when it is asked for and older than a minute."""

    def __init__(self, service: Service) -> None:
        self.service, self.lock, self.draw = service, threading.Lock(), random.Random()
        self.read_at, self.found = -EVERY_S, EMPTY

    def sample(self) -> Sample:
        with self.lock:  # one reads, and the others wait for what it finds
            if time.monotonic() - self.read_at >= EVERY_S:
                self.found = self.service.reached(self.read)
                self.read_at = time.monotonic()
            return self.found

    def read(self) -> Sample:
        return sample_of(self.service.store, self.service.models.live.catalogue, self.draw)

    def some_users(self, limit: int) -> Json:
        sample = self.sample()
        return {"users": [self.user_view(sample, n) for n in sample.choose(limit, self.draw)]}

    def users_of(self, text: str, limit: int) -> Json:
        (item, _), sample = found_in(self.service.models.live.catalogue, text), self.sample()
        users = [self.user_view(sample, n) for n in sample.with_item(item, limit)]
        return {"item": self.item_view(item), "users": users, "sample": len(sample.users)}

    def items(self, title: str, limit: int) -> Json:
        return {"items": [self.item_view(n) for n in by_title(self.service.models.live.catalogue, title, limit)]}

    def user_view(self, sample: Sample, n: int) -> Json:
        names = {"user": sample.users[n], "total": sample.totals[n], "favourites": sample.favourites[n]}
        return {**names, "latest": self.item_view(sample.latest[n])}

    def item_view(self, item: RawId) -> Json:
        model = self.service.models.live
        (number,) = model.catalogue.item_ids.ids([item]).tolist()
        raw, title = model.catalogue.describe_any(item, number)
        told = model.catalogue.updates.attributes_of(raw)
        shown = shown_of(model, number) if number >= 0 else {"attributes": told} if told else {}
        return {"item": raw, "title": title, **shown}


def add_exploring(app: FastAPI, service: Service) -> None:
    explorer = Explorer(service)

    @app.get("/v1/users/sample", responses=answers(m.SampleAnswer, 401, 422, 503))
    async def sample(limit: Annotated[int, Query(ge=1, le=50)] = 6) -> Response:
        """Some users with a line about each, others with every call."""
        return answer(await asyncio.to_thread(explorer.some_users, limit))

    @app.get("/v1/items", responses=answers(m.ItemsAnswer, 401, 422))
    async def items(
        title: Annotated[str, Query(min_length=1, max_length=m.MAX_ID)], limit: Annotated[int, Query(ge=1, le=50)] = 8
    ) -> Response:
        """Items whose title holds this text, in capitals or not; also titles that were told."""
        return answer(await asyncio.to_thread(explorer.items, title, limit))

    @app.get(f"/v1/items/{ITEM}/users", responses=answers(m.ItemUsersAnswer, 401, 422, 503))
    async def users_of(
        item: Annotated[str, Path(min_length=1, max_length=m.MAX_ID)], limit: Annotated[int, Query(ge=1, le=50)] = 6
    ) -> Response:
        """Users who did something with an item, out of a sample of the store."""
        return answer(await asyncio.to_thread(explorer.users_of, item, limit))
