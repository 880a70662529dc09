"""The same events give the same tensors: read from a table in training, in evaluation and in an answer, from a store that
was filled or appended to, from a message over HTTP, from a JSON file and from Python."""

import json
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ranking_table

from louder.data.config import DataConfig
from louder.data.histories import histories, names_of
from louder.data.ranking import RankingLoader
from louder.data.retrieval import RetrievalLoader
from louder.data.targets import SplitConfig
from louder.data.window import Reader
from louder.histories import Arrival, open_store
from louder.ids import IdMap
from louder.inference.recommender import read_history
from louder.inference.request import Event, history_of
from louder.serving.messages import EventIn

readers = st.fixed_dictionaries(
    {
        "max_len": st.integers(1, 12),
        "ranking": st.booleans(),
        "query_time": st.sampled_from(["request", "withheld"]),
        "log_values": st.sampled_from([(), ("watch",)]),
    }
)
SPLITS = st.sampled_from([SplitConfig(), SplitConfig(kind="time", validation_from=30, test_from=60)])


ITEM_IDS = IdMap(pa.array([f"item {item}" for item in range(9)]))


def log_of(seed, requests="none", series=False, values=True):
    table = ranking_table(seed, requests=requests, series=series, items=len(ITEM_IDS), users=4)
    if not values:
        table = replace(table, values={}, manifest=replace(table.manifest, values=[]))
    # cached, and otherwise read from files
    object.__setattr__(table, "item_ids", ITEM_IDS)
    object.__setattr__(table, "user_ids", IdMap(pa.array([100 + user for user in range(table.users)])))
    return table


def reader_of(table, **how):
    names = names_of(table)
    return Reader(item_ids=ITEM_IDS, actions=names.actions, values=names.values, **how)


def same(found, want):
    for name, x in vars(want).items():
        y = getattr(found, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert (x.dtype, x.shape) == (y.dtype, y.shape), name
            assert torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)), (name, x, y)


def fields_of(table, user):
    """Each event of a user, as it comes from outside."""
    own = table.of_user(user)
    for row, raw in enumerate(ITEM_IDS.raws(own.ids)):
        request = -1 if own.requests is None else int(own.requests[row])
        yield {
            "item": raw,
            "time": int(own.times[row]),
            "actions": [name for bit, name in enumerate(own.manifest.actions) if own.actions[row] >> bit & 1],
            "values": {name: float(x[row]) for name, x in own.values.items() if not np.isnan(x[row])},
            "request": None if request < 0 else str(request),
        }


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 500),
    requests=st.sampled_from(["none", "contiguous", "overlapping"]),
    how=readers,
    at=st.one_of(st.none(), st.integers(0, 110)),
)
def test_however_a_history_comes_a_model_reads_the_same(seed, requests, how, at):
    table = log_of(seed, requests)
    reader, names = reader_of(table, **how), names_of(table)
    with tempfile.TemporaryDirectory() as folder:
        filled, appended = (open_store(f"{folder}/{name}", names=names) for name in ("filled", "appended"))
        with closing(filled), closing(appended):
            filled.fill(histories(table))
            for user, raw in enumerate(table.user_ids.raw.to_pylist()):
                events = list(fields_of(table, user))
                appended.append([Arrival(user=raw, id=str(n), **event) for n, event in enumerate(events)])
                ways = {
                    "a filled store": filled.history(raw),
                    "an appended store": appended.history(raw),
                    "JSON": history_of([EventIn.model_validate_json(json.dumps(x)) for x in events], names),
                    "Python": history_of([Event(**x) for x in events], names),
                }
                encoded = reader.of_user(table, user, at)
                want = reader.batch(encoded, at)
                for history in ways.values():
                    found = reader.encode(history, at)
                    assert (found.rows.tolist(), found.skipped) == (encoded.rows.tolist(), 0)
                    same(reader.batch(found, at), want)


@given(seed=st.integers(0, 200), how=readers)
def test_a_file_of_events_is_read_as_the_table_is(seed, how):
    table = log_of(seed, values=False)
    reader = reader_of(table, **how)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.json"
        for user in range(table.users):
            events = [{name: x[name] for name in ("item", "time", "actions")} for x in fields_of(table, user)]
            file.write_text(json.dumps(events))
            history = history_of(read_history(file), names_of(table))
            same(reader.batch(reader.encode(history)), reader.batch(reader.of_user(table, user)))


def part_of(batch, user, length):
    """The first tokens of one of a batch's histories, as a batch of its own."""
    start = int(batch.offsets[user])
    parts = {name: None if x is None else x[start : start + length] for name, x in vars(batch).items()}
    alone = parts["prefix_lengths"] is None or torch.equal(parts["prefix_lengths"], torch.arange(length))
    changed = {"offsets": torch.tensor([0, length]), "prefix_lengths": None if alone else parts["prefix_lengths"]}
    return type(batch)(**(parts | changed))


@given(
    seed=st.integers(0, 500),
    requests=st.sampled_from(["none", "contiguous"]),  # of overlapping ones the loader's windows never go back
    how=readers,
    split=SPLITS,
    part=st.sampled_from(["train", "validation", "test"]),
    one_pass=st.booleans(),
    series=st.booleans(),
    auxiliary=st.booleans(),
)
def test_an_exposure_is_trained_and_answered_after_the_same_history(
    seed, requests, how, split, part, one_pass, series, auxiliary
):
    table = log_of(seed, requests, series)
    how = how | {"ranking": True, "log_values": (), "series": series and auxiliary}
    config = DataConfig(max_len=how["max_len"], query_time=how["query_time"], split=split, auxiliary=auxiliary)
    reader, heads = reader_of(table, **how), table.request_rows()
    for batch in RankingLoader(table, part, config, held_out=2, one_pass=one_pass).batches():
        sequences, lengths = batch.sequences, batch.sequences.positions()
        for position, row in zip(batch.target_positions.tolist(), batch.rows.tolist()):
            number = int(torch.searchsorted(sequences.offsets, position, right=True)) - 1
            user, head = int(batch.users[number]), int(heads[row])
            before = head - int(table.offsets[user])
            own = table.of_user(user).taken(slice(0, before), np.array([0, before]))
            encoded = reader.of_user(own, 0)
            # the query time of the last event is that of what comes next, which one model reads and another does not
            kept = (
                np.arange(head, len(table.ids))
                if series and auxiliary
                else head + np.flatnonzero(table.kinds[head:] == 0)
            )
            want = reader.batch(encoded, int(table.times[kept[0]]))
            same(part_of(sequences, number, int(lengths[position])), want)
            assert sequences.timestamps[position] == table.times[head]


@given(
    seed=st.integers(0, 500),
    how=readers,
    split=SPLITS,
    part=st.sampled_from(["validation", "test"]),
    series=st.booleans(),
    auxiliary=st.booleans(),
)
def test_a_target_is_evaluated_and_recommended_after_the_same_history(seed, how, split, part, series, auxiliary):
    table = log_of(seed, series=series, values=False)
    how = how | {"ranking": False, "log_values": (), "series": series and auxiliary}
    config = DataConfig(max_len=how["max_len"], query_time=how["query_time"], split=split, auxiliary=auxiliary)
    reader = reader_of(table, **how)
    for batch in RetrievalLoader(table, part, config, held_out=2).batches():
        for number, (user, row) in enumerate(zip(batch.users.tolist(), batch.rows.tolist())):
            before = row - int(table.offsets[user])
            own = table.of_user(user).taken(slice(0, before), np.array([0, before]))
            want = reader.batch(reader.of_user(own, 0), int(table.times[row]))
            same(part_of(batch.sequences, number, int(batch.sequences.lengths[number])), want)
