"""Lists for many users of a table, some at a time, so that any number of them takes little memory.

A run that only retrieves reads the windows of all users of a batch in one pass, as evaluation does, and keeps no keys and
values: each user is asked about once. A run that ranks answers them by the engine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch.nn.utils.rnn import pad_sequence

from louder.data.table import Table, ranges
from louder.data.window import query_times, sequence_batch, table_columns
from louder.errors import InputError
from louder.inference import reranking
from louder.inference.request import Request, Result, TableUser
from louder.models import SequentialModel
from louder.schema import ENGAGEMENT

if TYPE_CHECKING:
    from louder.inference.engine import Engine

READ_TOGETHER, RANKED_TOGETHER = 256, 32  # users of one batch


def lists(engine: "Engine", users: np.ndarray, like: Request) -> Iterator[tuple[np.ndarray, list[Result]]]:
    """The answers to the users [U] of the engine's table, by number, batch by batch: the users of a batch, and their results.

    like  what is asked of each: all but its history and user
    Raises InputError for what cannot be asked.
    """
    one_pass = engine.ranker is None and like.at is None and not like.pin
    size = READ_TOGETHER if one_pass else RANKED_TOGETHER
    for first in range(0, len(users), size):
        some = users[first : first + size]
        yield some, (read_together(engine, some, like) if one_pass else one_by_one(engine, some, like))


def one_by_one(engine: "Engine", users: np.ndarray, like: Request) -> list[Result]:
    table, raws = engine.table, engine.table.user_ids.raws(users)
    asked = [replace(like, history=TableUser(table, user), user=raw) for user, raw in zip(users.tolist(), raws)]
    results = []
    for answer in engine.recommend_batch(asked):
        if isinstance(answer, InputError):
            raise answer
        results.append(answer)
    return results


@torch.no_grad()
def read_together(engine: "Engine", users: np.ndarray, like: Request) -> list[Result]:
    """Of a run that retrieves, and for requests at the time of each user's latest event."""
    table, reader = engine.engagements, engine.run.reader
    assert engine.retriever is not None
    columns = table_columns(table, actions=bool(reader.actions), kinds=reader.series)
    starts, ends = table.offsets[users], table.offsets[users + 1]
    lengths = np.minimum(ends - starts, reader.max_len)
    rows = ranges(ends - lengths, lengths)
    following = np.minimum(rows + 1, np.repeat(ends - 1, lengths))
    batch = sequence_batch(columns, rows, lengths, query_times(columns, rows, following, reader.query_time))
    model = engine.retriever.backbone
    assert isinstance(model, SequentialModel)
    states = model(batch)[batch.offsets[1:] - 1].float()
    seen = [np.zeros(0, np.int64) if like.seen else past(table, user) for user in users]
    allowed = engine.catalogue.allowed(like)
    raws = engine.table.user_ids.raws(users)
    excluded = pad_sequence([torch.from_numpy(own) for own in seen], batch_first=True, padding_value=-1)
    mask = None if allowed is None else torch.from_numpy(allowed)
    wanted = min(engine.wanted(like), len(engine.catalogue))
    ids, scores = engine.search.search(states, raws, wanted, excluded, mask)
    results = []
    for own_ids, own_scores, length in zip(ids.numpy(), scores.numpy(), lengths.tolist()):
        kept = int((own_ids >= 0).sum())
        found = Result(own_ids[:kept], own_scores[:kept], length, 0, temperature=engine.run.temperature)
        results.append(reranking.rerank(like, found, engine.vectors, engine.catalogue))
    return results


def past(table: Table, user: int) -> np.ndarray:
    """[E] ids of the items that a user engaged with."""
    own = slice(int(table.offsets[user]), int(table.offsets[user + 1]))
    items: np.ndarray = table.ids[own][table.kinds[own] == ENGAGEMENT]
    return items


def as_table(engine: "Engine", users: np.ndarray, results: Sequence[Result]) -> pa.Table:
    """A row for each item of each list: user, rank (1 the first), item, title, score; of two stages also `next`, and the
    probability of each action and the values that are expected."""
    counts = [len(result.items) for result in results]
    items = pa.array(np.concatenate([result.items for result in results]).astype(np.int64))
    names = {
        "user": engine.table.user_ids.raw.take(pa.array(np.repeat(users, counts))),
        "rank": pa.array(ranges(np.ones(len(counts), np.int64), np.array(counts, dtype=np.int64))),
        "item": engine.catalogue.item_ids.raw.take(items),
    }
    about = engine.catalogue.columns
    if about is not None and "title" in about.column_names:
        names["title"] = about.column("title").take(items)
    names["score"] = pa.array(np.concatenate([result.scores for result in results]).astype(np.float64))
    if results and all(result.next is not None for result in results):
        names["next"] = pa.array(np.concatenate([result.next for result in results if result.next is not None]))
    for column, titles in (("probabilities", engine.actions), ("values", engine.value_names)):
        found = [getattr(result, column) for result in results]
        if found and all(own is not None for own in found):
            whole = np.concatenate(found)
            names |= {title: pa.array(whole[:, place]) for place, title in enumerate(titles)}
    return pa.table(names)
