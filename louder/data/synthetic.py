"""Synthetic event logs, whose structure is known because it was put there. Numpy and Arrow only.

Generators yield Arrow record batches of user_id, item_id, timestamp (int64), so that a log larger than memory can be
written as it is made. The same seed gives the same log.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from louder.errors import InputError
from louder.folders import full_disk, is_full_disk, require_free
from louder.schema import ITEM, TIME, USER

FIRST_TIME = 1_704_067_200  # 2024-01-01 00:00 UTC: a fixed start, so that a log does not depend on the day it is made
DAY = 86_400
RECORDS_AT_ONCE = 4096  # part of what a seed means: another value gives another log
EVENTS_AT_ONCE = 1 << 20

# sizes of the paper's stream, and of one with as many items a category that is made in a second
PAPER = {"records": 1_000_000, "items": 20_000, "categories": 100, "length": 128}
SMALL = {"records": 20_000, "items": 4_000, "categories": 20, "length": 128}


def event_log(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> pa.RecordBatch:
    return pa.record_batch({USER: pa.array(users), ITEM: pa.array(items), TIME: pa.array(times)})


def released(record: np.ndarray | int, records: int, items: int, initial: float = 0.4) -> np.ndarray:
    """How many item ids exist when a record is drawn, the lowest ones: the share `initial` from the start, the rest comes
    linearly (Appendix C). At record 500,000 of 1,000,000 with 20,000 items, (0.4 + 0.6 · 0.5) · 20,000 = 14,000."""
    share = initial + (1 - initial) * np.asarray(record, np.float64) / records
    return np.floor(share * items + 1e-9).astype(np.int64)  # 1e-9: 0.7 · 20,000 must not fall to 13,999


def dirichlet(
    records: int,
    items: int,
    categories: int,
    length: int = 128,
    *,
    initial: float = 0.4,
    max_categories: int = 5,
    alpha: tuple[float, float] = (1.0, 500.0),
    seed: int = 0,
) -> Iterator[pa.RecordBatch]:
    """The non-stationary stream of the paper's Appendix C: items are released while the stream runs.

    A record is a user with `length` events, and users come in the order of the stream; the paper trains on the first
    90 % and tests on the last 10 %. It has no clock: `timestamp` is the position, 0 .. length-1.

    Each record draws up to `max_categories` categories (how many: uniform on 1 .. max_categories; which: without
    repetition, of those with a released item), a prior H over them (uniform on the simplex) and a strength α ~ U(alpha);
    the paper fixes neither the distribution of "up to 5" nor H's. The n-th event takes a category from H with probability
    α / (α + n - 1), else the category of one of the n - 1 events before it; then any released item of that category.

    The paper's size is `dirichlet(**PAPER)`. There a category has about 190 released items when testing begins, all
    equally likely, so no model can have an HR@10 much over 10 / 190 = .053, and one that knows each record's prior and
    α has .035. The .0442 to .0893 of the paper's Table 2 come from a stream that differs from its description in some
    way: compare models on this stream with each other, not with that table.
    """
    require(records >= 1 and length >= 1, "records and length", f"{records} and {length}", "at least 1")
    require(categories >= 1 and max_categories >= 1, "categories", categories, "at least 1")
    require(0 < initial <= 1 and items * initial >= 1, "initial", initial, "a share in (0, 1] of at least one item")
    require(0 < alpha[0] <= alpha[1], "alpha", alpha, "two positive numbers, the smaller first")
    rng = np.random.default_rng(seed)
    category = rng.integers(0, categories, items)
    by_category = np.argsort(category, kind="stable")  # category after category, ids rising: released ones come first
    starts = np.searchsorted(category[by_category], np.arange(categories))
    keys = category[by_category] * (items + 1) + by_category  # rising, so that one search counts within a category
    used = np.bincount(category, minlength=categories) > 0
    first_item = np.where(used, by_category[np.minimum(starts, items - 1)], items)
    by_release = np.argsort(first_item, kind="stable")

    for begin in range(0, records, RECORDS_AT_ONCE):
        record = np.arange(begin, min(begin + RECORDS_AT_ONCE, records))
        limit = released(record, records, items, initial)
        open_categories = np.searchsorted(first_item[by_release], limit)
        size = np.minimum(rng.integers(1, max_categories + 1, len(record)), open_categories)
        chosen = by_release[distinct(open_categories, max_categories, rng)]  # [records, max_categories]
        count = np.searchsorted(keys, chosen * (items + 1) + limit[:, None]) - starts[chosen]

        prior = rng.standard_exponential((len(record), max_categories))
        prior[np.arange(max_categories) >= size[:, None]] = 0
        slot = dirichlet_process(prior, rng.uniform(*alpha, len(record)), length, rng)  # [length, records]

        nth = np.arange(len(record)) * max_categories + slot
        offset = (rng.random(slot.shape, np.float32) * count.ravel()[nth]).astype(np.int64)
        drawn = by_category[starts[chosen].ravel()[nth] + np.minimum(offset, count.ravel()[nth] - 1)]
        place = np.tile(np.arange(length, dtype=np.int64), len(record))
        yield event_log(np.repeat(record, length), drawn.T.ravel(), place)


def distinct(among: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """among [R] -> [R, n] numbers below `among`, in random order, no two alike in the first min(n, among) of a row."""
    drawn = np.zeros((len(among), n), np.int64)
    for j in range(n):
        # the j-th draw is among what is left; stepping over the earlier ones, smallest first, finds it
        new = (rng.random(len(among)) * np.maximum(among - j, 1)).astype(np.int64)
        for earlier in np.sort(drawn[:, :j], axis=1).T:
            new += earlier <= new
        drawn[:, j] = np.minimum(new, among - 1)
    return drawn


def dirichlet_process(prior: np.ndarray, alpha: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """R sequences from Dirichlet processes with the weights prior [R, K] and strengths alpha [R] -> int64 [length, R].

    One uniform number x in [0, α + n) decides a step that has n earlier ones: if x < α it draws from the prior (for
    which x / α is uniform again), else the whole part of x - α names the earlier position to repeat.
    """
    cumulative = np.cumsum(prior, axis=1)
    cumulative = (cumulative / cumulative[:, -1:]).T[:-1]  # [K - 1, R]; exactly 1 where only zero weights follow
    row = np.arange(len(alpha))
    out = np.empty((length, len(alpha)), np.int64)
    for n in range(length):
        x = rng.random(len(alpha)) * (alpha + n)
        fresh = (x >= cumulative * alpha).sum(0)
        if n:
            earlier = np.clip((x - alpha).astype(np.int64), 0, n - 1)
            fresh = np.where(x < alpha, fresh, out[earlier, row])
        out[n] = fresh
    return out


def checkerboard(
    users: int = 1_000, items: int = 200, *, length: int = 20, communities: int = 2, seed: int = 0
) -> Iterator[pa.RecordBatch]:
    """Even users like even items: user u only ever meets items i with i ≡ u (mod communities).

    Every held-out event is in the user's community, where no item is likelier than another, so a perfect model never
    recommends from outside it. A user meets no item twice. Rows are in order of time, a few hours between a user's events.
    """
    most = items // communities if communities >= 1 else 0
    require(communities >= 1 and most >= 1, "communities", communities, f"between 1 and the number of items, {items}")
    require(1 <= length <= most, "length", length, f"between 1 and the {most} items of a community")
    rng = np.random.default_rng(seed)
    number = np.argsort(rng.random((users, most)), axis=1)[:, :length]  # [users, length], no item twice
    item = number * communities + np.arange(users)[:, None] % communities
    gaps = 60 + rng.exponential(6 * 3600, (users, length))
    time = FIRST_TIME + (rng.integers(0, 30 * DAY, (users, 1)) + np.cumsum(gaps, axis=1)).astype(np.int64)
    order = np.argsort(time.ravel(), kind="stable")
    yield event_log(np.repeat(np.arange(users), length)[order], item.ravel()[order], time.ravel()[order])


def events(n_events: int, n_users: int, n_items: int, seed: int = 0) -> Iterator[pa.RecordBatch]:
    """Independent events for measuring speed, in no order: users and times (over a year) uniform, items by Zipf's law
    (item i, counted from 0, has probability log(1 + 1 / (i + 1)) / log(n_items + 1), near to 1 / (i + 1))."""
    require(min(n_events, n_users, n_items) >= 1, "the smallest size", min(n_events, n_users, n_items), "at least 1")
    rng = np.random.default_rng(seed)
    for begin in range(0, n_events, EVENTS_AT_ONCE):
        n = min(EVENTS_AT_ONCE, n_events - begin)
        item = np.exp(rng.random(n) * np.log(n_items + 1)).astype(np.int64) - 1
        users, times = rng.integers(0, n_users, n), FIRST_TIME + rng.integers(0, 365 * DAY, n)
        yield event_log(users, np.clip(item, 0, n_items - 1), times)


GENRES = {
    "Adventure": "Compass Caravan Monsoon Cartographer Lagoon Expedition Rapids Outpost",
    "Comedy": "Umbrella Casserole Landlord Trombone Neighbour Picnic Sofa Rehearsal",
    "Crime": "Alibi Ledger Witness Informant Verdict Getaway Locksmith Pawnbroker",
    "Documentary": "Orchard Beehive Railway Reef Loom Bakery Estuary Workshop",
    "Drama": "Ferry Inheritance Winter Daughter Promise Silence Staircase Harvest",
    "Family": "Treehouse Kite Badger Pancake Snowman Lighthouse Puddle Balloon",
    "Fantasy": "Thorn Rune Moonwell Griffin Spellbook Cauldron Lantern Oracle",
    "Mystery": "Cellar Portrait Clock Fog Passage Manuscript Keyhole Mirror",
    "Romance": "Waltz Postcard Vineyard Orchid Serenade Balcony Gondola Bouquet",
    "Science Fiction": "Orbit Signal Android Colony Nebula Horizon Airlock Archive",
}
ADJECTIVES = [
    "Amber", "Borrowed", "Crooked", "Distant", "Drifting", "Feathered", "Forgotten", "Gentle", "Hidden", "Ivory",
    "Lonely", "Midnight", "Northern", "Patient", "Quiet", "Restless", "Russet", "Silver", "Tangled", "Unlikely",
    "Velvet", "Wandering",
]  # fmt: skip
PLACES = [
    "Ashby Fen", "Brindlemoor", "Calder Quay", "Dunmarrow", "Eastermere", "Fallowgate", "Hollowmere", "Juniper Bay",
    "Kestrel Point", "Larkhollow", "Marrowick", "Mossgrave", "Ninebridges", "Oakenshaw", "Pelican Row", "Quillhaven",
    "Saltmarsh", "Thistledown", "Tolvane", "Wexcombe",
]  # fmt: skip
PATTERNS = (
    "The {adjective} {noun}", "The {noun} of {place}", "The {place} {noun}", "{noun} at {place}",
    "Beyond the {adjective} {noun}", "Return to {place}",
)  # fmt: skip


def catalogue(items: int, rng: np.random.Generator) -> tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray]:
    """Invent films: about half the titles begin a series of 3 to 7 parts, the others stand alone.

    returns   table [items] of item_id, title, genres (a list), by item_id from 1
              first, parts [W]: row of each work's first part, in order of making, and number of its parts
              genres [W, G]: 1 or 2 ones a row
    """
    names = list(GENRES)
    seen: set[str] = set()

    def title(genre: str, patterns: tuple[str, ...]) -> str:
        while True:
            adjective, noun = rng.choice(ADJECTIVES), rng.choice(GENRES[genre].split())
            place = rng.choice(PLACES)
            made = str(rng.choice(patterns)).format(adjective=adjective, noun=noun, place=place)
            if made not in seen:
                seen.add(made)
                return made

    titles: list[str] = []
    labels: list[list[str]] = []
    parts: list[int] = []
    genres: list[np.ndarray] = []
    while len(titles) < items:
        size = min(int(rng.integers(3, 8)) if rng.random() < 0.5 else 1, items - len(titles))
        own = rng.choice(len(names), 1 + int(rng.random() < 0.4), replace=False)
        name = title(names[own[0]], PATTERNS)
        titles += [name] + [f"{name} {part}: {title(names[own[0]], PATTERNS[:3])}" for part in range(2, size + 1)]
        labels += [[names[genre] for genre in own]] * size
        parts.append(size)
        genres.append(np.isin(np.arange(len(names)), own))
    table = pa.table({ITEM: np.arange(1, items + 1), "title": titles, "genres": labels})
    return table, np.cumsum(parts) - parts, np.array(parts), np.array(genres, np.float64)


def demo_log(seed: int = 0, *, users: int = 2_000, items: int = 600) -> tuple[pa.Table, pa.Table]:
    """A log that looks like a small film service, about 35 events a user, and can be learnt from the order of events.

    Viewers come back in sessions (films within the hour, then days of pause). Two times in three, one in the middle of a
    series takes its next part, most likely of the one seen last and of one that was liked; else they begin a new work, by
    its popularity (Zipf's law) and their taste in genres, which drifts over their history. Nothing is seen twice.

        returns   events   user_id, item_id, timestamp, watched (0: given up, and the series too), liked; by time
                  items    item_id, title, genres (a list)
    """
    require(users >= 1 and items >= 200, "items", items, "at least 200, so that nobody runs out of films")
    rng = np.random.default_rng(seed)
    table, first, parts, genres = catalogue(items, rng)
    popularity = np.log(1 / (1 + rng.permutation(len(parts)))) * 0.9
    tastes = rng.dirichlet(np.full(genres.shape[1], 0.25), (2, users))  # at the beginning of a history, and at its end
    length = np.clip(rng.lognormal(3.3, 0.7, users), 5, min(120, items // 5)).astype(np.int64)
    length = np.sort(length)[::-1]

    columns = viewings(length, tastes, popularity, first, parts, genres, rng)
    by_user = np.lexsort((columns[2], columns[0]))
    user, item, nth, watched, liked = (column[by_user] for column in columns)
    pause = rng.lognormal(np.log(1.5 * DAY), 0.8, len(user)).clip(max=30 * DAY)
    gap = np.where(rng.random(len(user)) < 0.3, pause, rng.lognormal(np.log(2700), 0.4, len(user)))
    gap[nth == 0] = rng.uniform(0, 270 * DAY, users)  # when a viewer joins
    total = np.cumsum(gap)
    time = FIRST_TIME + (total - np.repeat((total - gap)[nth == 0], length)).astype(np.int64)

    number = rng.permutation(users) + 1  # user and item ids should tell nothing of length, series or popularity
    place = rng.permutation(items)
    ids = {USER: number[user], ITEM: place[item] + 1, TIME: time}
    log = pa.table(ids | {"watched": watched.astype(np.int8), "liked": liked.astype(np.int8)})
    shuffled = table.take(np.argsort(place)).set_column(0, ITEM, table.column(ITEM))
    return log.take(np.lexsort((nth, user, time))), shuffled


def viewings(
    length: np.ndarray,
    tastes: np.ndarray,
    popularity: np.ndarray,
    first: np.ndarray,
    parts: np.ndarray,
    genres: np.ndarray,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """User, film, step, watched and liked of every event, step after step; see demo_log, and catalogue for the works.

    length [users] events of each viewer, descending    tastes [2, users, G] early and late    popularity [W] logits
    """
    (early, late), users, works = tastes, len(length), len(parts)
    seen = np.zeros((users, works), np.int64)  # parts seen
    last = np.zeros((users, works))  # step of the last one
    keen = np.zeros((users, works))  # log weight of going on; -inf once given up
    rows = []
    for step in range(length[0]):
        n = int((length > step).sum())  # users 0 .. n-1 are still active
        user = np.arange(n)
        drift = (step / length[:n])[:, None]
        appeal = ((1 - drift) * early[:n] + drift * late[:n]) @ genres.T / genres.sum(1)  # [n, works], 0 .. 1
        noise = rng.gumbel(size=(n, works))  # the largest of logits + Gumbel noise is a draw from their softmax

        begun = seen[:n] > 0
        going_on = np.where(begun & (seen[:n] < parts), keen[:n] - (step - last[:n]) / 3, -np.inf)
        new = np.where(begun, -np.inf, popularity + 1.5 * np.log(appeal + 0.01))
        continues = np.isfinite(going_on).any(1) & (rng.random(n) < 2 / 3)
        work = np.argmax(np.where(continues[:, None], going_on, new) + noise, axis=1)

        match = np.sqrt(appeal[user, work])
        watched = rng.random(n) < 0.8 + 0.19 * match
        liked = watched & (rng.random(n) < 0.1 + 0.6 * match)
        rows.append((user, first[work] + seen[user, work], np.full(n, step), watched, liked))
        seen[user, work] += 1
        last[user, work] = step
        keen[user, work] = np.where(watched, liked, -np.inf)
    return [np.concatenate(column) for column in zip(*rows)]


def write_log(
    batches: Iterable[pa.RecordBatch],
    path: Path | str,
    *,
    made_by: Mapping[str, str | float] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write record batches to one .parquet or .csv file -> number of rows. The file appears when it is whole.

    made_by   what made the log; kept in the Parquet file's metadata under "louder"
    advance   called with the number of rows of each batch once it is written
    raises    InputError: another suffix, the file exists, the disk is full
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(
            f"{path} ends in {path.suffix or 'nothing'!r}, but a log is written as .parquet or .csv: -o NAME.parquet."
        )
    require_free(path, overwrite)
    temporary = path.with_name(f".{path.name}.tmp")
    rows, writer = 0, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for batch in batches:
            if writer is None:
                schema = batch.schema.with_metadata({"louder": json.dumps(dict(made_by or {}))})
                csv = path.suffix == ".csv"
                writer = (
                    pc.CSVWriter(temporary, schema) if csv else pq.ParquetWriter(temporary, schema, compression="zstd")
                )
            writer.write_batch(batch)
            rows += batch.num_rows
            advance(batch.num_rows)
        assert writer is not None, "a log has at least one batch"
        writer.close()
        temporary.replace(path)
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(path.parent) from error
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}). Choose another place with -o.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def require(holds: bool, name: str, value: object, needed: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value}, but must be {needed}.")
