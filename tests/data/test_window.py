"""The same events give the same tensors, whichever way they come."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import ranking_table

from louder.data.window import Columns, Reader, action_bits, log1p, remapped, sequence_batch, table_columns
from louder.errors import InputError
from louder.histories import History, Names
from louder.ids import IdMap

IDS = IdMap(pa.array([1000 + i for i in range(9)]))
NAMES = Names(("like", "share"), ("watch",))


def reader(**changes):
    return replace(
        Reader(item_ids=IDS, max_len=5, actions=NAMES.actions, values=NAMES.values, ranking=True),
        **changes,
    )


def events(items, *, names=NAMES, times=None, actions=None, values=None, requests=None):
    n = len(items)
    return History(
        items=np.array(items, dtype=np.int64),
        times=np.arange(n) * 10 if times is None else np.array(times),
        actions=np.zeros(n, np.int64) if actions is None else np.array(actions),
        values=np.full((n, 1), np.nan, np.float32) if values is None else np.array(values, np.float32)[:, None],
        requests=np.full(n, -1) if requests is None else np.array(requests),
        names=names,
    )


def equal(a, b):
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert x.dtype == y.dtype and x.shape == y.shape, name
            assert torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)), name


# --- windows -----------------------------------------------------------------------------------------------------


def test_retrieval_reads_the_latest_tokens_and_ranking_moves_by_hops():
    history = events([1000, 1001, 1002, 1003, 1004, 1005])
    for ranking, want in (False, [1, 2, 3, 4, 5]), (True, [2, 3, 4, 5]):
        own = reader(ranking=ranking)
        assert own.batch(own.encode(history)).ids.tolist() == want


def test_what_is_not_known_is_left_out_or_read_as_new():
    history = events([1000, 7, 1002, 8, 1004], values=[1, 2, 3, 4, 5])
    known, every = (own.encode(history, at=35) for own in (reader(), reader(reads_new=True)))
    assert (known.columns.ids.tolist(), known.rows.tolist()) == ([0, 2], [0, 2])
    assert (every.columns.ids.tolist(), every.rows.tolist()) == ([0, -1, 2, -1], [0, 1, 2, 3])
    assert every.columns.values[0].tolist() == [1, 2, 3, 4]
    assert sorted(every.seen.tolist()) == sorted(known.seen.tolist()) == [0, 2, 4]


def kept(history, keep):
    """What a store that keeps so many has of it."""
    return replace(history.select(slice(max(len(history) - keep, 0), None)), total=len(history))


@pytest.mark.parametrize("ranking", [False, True])
@pytest.mark.parametrize("max_len", [1, 2, 5])
@pytest.mark.parametrize("at", [None, 10, 85, 125])
def test_a_window_does_not_depend_on_how_much_a_store_keeps(ranking, max_len, at):
    own, items = reader(ranking=ranking, max_len=max_len), [1000 + n % 9 for n in range(13)]
    for count in range(len(items) + 1):
        whole = events(items[:count])
        end = count if at is None else min(count, at // 10 + 1)
        for keep in range(max_len + count - end, 14):
            equal(own.batch(own.encode(kept(whole, keep), at)), own.batch(own.encode(whole, at)))


def test_a_window_stands_between_hops_whatever_a_store_drops_and_a_model_does_not_know():
    own = reader(max_len=4)  # moves by two
    items = [1000, 1001, 7, 1002, 1003, 1004, 7, 7, 1005, 1006, 1007, 7, 1008, 1000, 1001]
    begins, lengths = [], []
    for count in range(1, len(items) + 1):
        batch = own.batch(own.encode(kept(events(items[:count]), keep=8)))
        begins.append(int(batch.timestamps[0]) // 10)
        lengths.append(len(batch.ids))
    assert begins == [0, 0, 0, 0, 3, 3, 3, 3, 4, 8, 8, 8, 10, 10, 12]
    assert lengths == [1, 2, 2, 3, 2, 3, 3, 3, 3, 2, 3, 3, 2, 3, 3]


@pytest.mark.parametrize("ranking", [False, True])
def test_an_empty_history_gives_an_empty_batch(ranking):
    own = reader(ranking=ranking)
    batch = own.batch(own.encode(events([])), at=7)
    assert batch.users == 1 and len(batch.ids) == 0


def test_query_times_are_those_of_the_next_event_and_of_the_request():
    own, history = reader(), events([1000, 1001, 1002])
    encoded = own.encode(history)
    assert own.batch(encoded, at=95).query_timestamps.tolist() == [10, 20, 95]
    assert own.batch(encoded).query_timestamps.tolist() == [10, 20, 20]
    assert reader(query_time="withheld").batch(encoded, at=95).query_timestamps.tolist() == [0, 10, 20]


def test_all_that_was_ever_met_is_seen():
    """Whatever the time of the request, and also what a store has only the items of. Of a table as of a store."""
    history = replace(events([1000, 5, 1002, 1003], times=[0, 10, 20, 30]), older=np.array([1008, 6, 1001]), total=9)
    for at in -1, 10, 99, None:
        assert reader().encode(history, at).seen.tolist() == [8, 1, 0, 2, 3]
    table = ranking_table(3)
    own = Reader(item_ids=IDS, max_len=3, actions=table.manifest.actions, values=table.manifest.values, ranking=True)
    for series in False, True:
        encoded = replace(own, series=series).of_user(table, 2, at=int(table.times[table.offsets[2]]) - 1)
        mine = slice(*table.offsets[2:4])
        assert encoded.seen.tolist() == table.ids[mine][table.kinds[mine] == 0].tolist() != []
        assert len(encoded.columns.ids) == 0


def test_what_is_later_than_the_request_is_not_looked_at_and_not_counted():
    encoded = reader().encode(events([1000, 5, 1002, 6, 1003]), at=20)
    assert (encoded.columns.ids.tolist(), encoded.rows.tolist(), encoded.skipped) == ([0, 2], [0, 2], 1)


# --- unknown items -----------------------------------------------------------------------------------------------


def test_unknown_items_are_left_out_before_the_window_is_cut_and_counted():
    encoded = reader().encode(events([1000, 1, 2, 1001, 3, 1002, 4, 1003]))
    assert encoded.columns.ids.tolist() == [0, 1, 2, 3]
    assert encoded.rows.tolist() == [0, 3, 5, 7]
    assert encoded.skipped == 4
    assert reader().batch(encoded).ids.tolist() == [0, 1, 2, 3]


def test_a_history_of_unknown_items_is_like_an_empty_one():
    own = reader()
    encoded = own.encode(events([1, 2, 3]))
    assert encoded.skipped == 3
    equal(own.batch(encoded, 5), own.batch(own.encode(events([])), 5))


def test_a_request_whose_first_item_is_unknown_begins_at_the_first_known_one():
    encoded = reader().encode(events([1000, 1, 1001, 1002], requests=[-1, 7, 7, 7]))
    batch = reader().batch(encoded)
    assert batch.positions().tolist() == [0, 1, 1]
    assert batch.timestamps.tolist() == [0, 20, 20]


# --- requests ----------------------------------------------------------------------------------------------------


def test_items_of_one_request_stand_where_and_when_its_first_one_does():
    own = reader(max_len=9)
    encoded = own.encode(events([1000, 1001, 1002, 1003, 1004], requests=[3, 8, 3, 8, -1]))
    batch = own.batch(encoded)
    assert batch.positions().tolist() == [0, 1, 0, 1, 4]
    assert batch.timestamps.tolist() == [0, 10, 0, 10, 40]
    assert batch.query_timestamps.tolist() == [10, 20, 30, 40, 40]  # the time of the next event, whatever its request


def test_a_request_that_began_before_the_window_keeps_its_time():
    own = reader(max_len=2)
    encoded = own.encode(events([1000, 1001, 1002, 1003], requests=[4, 4, 4, 4]))
    batch = own.batch(encoded)
    assert batch.ids.tolist() == [3] and batch.timestamps.tolist() == [0] and batch.positions().tolist() == [0]


# --- actions and values ------------------------------------------------------------------------------------------


def test_actions_are_remapped_by_name_and_absent_values_are_missing():
    other = Names(("share", "click", "like"), ())
    encoded = reader().encode(events([1000, 1001, 1002], names=other, actions=[0b001, 0b110, 0b111]))
    assert encoded.columns.actions.tolist() == [0b10, 0b01, 0b11]
    assert np.isnan(encoded.columns.values[0]).all()


def test_a_value_goes_by_name_and_its_logarithm_where_the_model_learns_that():
    history = events([1000, 1001, 1002], values=[0.5, -2, np.nan])
    plain, logged = (reader(log_values=x).encode(history).columns.values[0] for x in ((), ("watch",)))
    assert plain.tolist()[:2] == [0.5, -2.0]
    assert logged.tolist()[:2] == [np.log1p(np.float32(0.5)), 0.0]
    assert np.isnan(logged[2]) and logged.dtype == np.float32
    assert log1p(np.array([-1.0, 0.0, np.e - 1])).tolist() == pytest.approx([0, 0, 1])


def test_a_model_that_reads_no_actions_or_series_gets_none():
    own = reader(actions=(), values=())
    batch = own.batch(own.encode(events([1000], actions=[1])))
    assert batch.actions is None and batch.kinds is None and batch.values is None
    series = reader(series=True)
    assert series.batch(series.encode(events([1000]))).kinds.tolist() == [0]


def test_bits_of_names():
    assert action_bits(("share",), NAMES.actions) == action_bits(("share", "share"), NAMES.actions) == 0b10
    assert action_bits((), NAMES.actions) == 0
    with pytest.raises(InputError, match=r"no action 'buy'; the model knows like, share\."):
        action_bits(("like", "buy"), NAMES.actions)


@given(bits=st.lists(st.integers(0, 7)), order=st.permutations(["a", "b", "c"]), dropped=st.integers(0, 3))
def test_remapping_keeps_exactly_the_actions_that_both_know(bits, order, dropped):
    have, want = ["a", "b", "c"], order[dropped:]
    out = remapped(np.array(bits, dtype=np.int64), have, want)
    for before, after in zip(bits, out.tolist()):
        named = {name for number, name in enumerate(have) if before >> number & 1}
        assert {name for number, name in enumerate(want) if after >> number & 1} == named & set(want)


# --- one history, however it comes -------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 300),
    requests=st.sampled_from(["none", "contiguous", "overlapping"]),
    max_len=st.integers(1, 9),
    ranking=st.booleans(),
    query_time=st.sampled_from(["request", "withheld"]),
    log_values=st.sampled_from([(), ("watch",)]),
    at=st.integers(-1, 110),
    unknown=st.booleans(),
)
def test_a_history_of_a_table_and_its_raw_events_give_the_same_batch(
    seed, requests, max_len, ranking, query_time, log_values, at, unknown
):
    table = ranking_table(seed, requests=requests, series=False)
    own = reader(
        item_ids=IdMap(pa.array(np.arange(table.items) + 1000)),
        max_len=max_len,
        ranking=ranking,
        query_time=query_time,
        log_values=log_values,
    )
    for user in range(table.users):
        part = table.of_user(user)
        history = History(
            items=part.ids + 1000,
            times=part.times,
            actions=part.actions,
            values=part.values["watch"][:, None],
            requests=np.full(len(part.ids), -1) if part.requests is None else part.requests,
            names=NAMES,
        )
        skipped = 0
        # an unknown item changes nothing, wherever it stands, but that hops are counted with it
        if unknown and 0 < len(part.ids) < (max_len if ranking else 1_000):
            place, skipped = seed % (len(part.ids) + 1), 1
            history = History(
                items=np.insert(history.items, place, 7),
                times=np.insert(history.times, place, history.times[max(place - 1, 0)]),
                actions=np.insert(history.actions, place, 3),
                values=np.insert(history.values, place, 1.0, axis=0),
                requests=np.insert(history.requests, place, -1),
                names=NAMES,
            )
            skipped = int(history.times[place] <= at)
        stored, raw = own.of_user(table, user, at), own.encode(history, at)
        assert (stored.skipped, raw.skipped) == (0, skipped)
        equal(own.batch(stored, at), own.batch(raw, at))


def test_a_batch_of_many_histories_is_their_batches_end_to_end():
    table = ranking_table(3, requests="contiguous")
    columns = table_columns(table, heads=table.request_rows())
    lengths = np.diff(table.offsets)
    rows = np.arange(len(table.ids))
    together = sequence_batch(columns, rows, lengths, table.times, firsts=table.offsets[:-1])
    own = Reader(
        item_ids=IDS,
        max_len=99,
        actions=table.manifest.actions,
        values=table.manifest.values,
        series=True,
        ranking=True,
        query_time="withheld",
    )
    for user in range(table.users):
        alone = own.batch(own.of_user(table, user))
        inside = slice(*table.offsets[user : user + 2])
        assert together.timestamps[inside].tolist() == alone.timestamps.tolist()
        assert together.positions()[inside].tolist() == alone.positions().tolist()
        assert together.kinds[inside].tolist() == alone.kinds.tolist()


def test_columns_of_a_table_are_views():
    table = ranking_table()
    columns = table_columns(table, values=True)
    assert table_columns(table).values == ()
    assert columns.ids is table.ids and columns.values == (table.values["watch"],)
    assert np.shares_memory(table.of_user(2).ids, table.ids)
    assert table_columns(table, actions=False, kinds=False).actions is None
    assert Columns(ids=table.ids, times=table.times).items is table.ids
    assert columns.items.tolist() == table.ids[table.kinds == 0].tolist()


def test_of_several_values_each_is_its_own_column_and_only_those_named_are_logarithms():
    names = Names((), ("pay", "watch", "age"))
    history = replace(events([1000, 1001]), names=names, values=np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32))
    own = reader(actions=(), values=("watch", "pay", "gone"), log_values=("pay",))
    found = own.batch(own.encode(history)).values
    assert found[:, 0].tolist() == [2, 5]
    assert found[:, 1].tolist() == pytest.approx([np.log(2), np.log(5)])
    assert found[:, 2].isnan().all()


def test_actions_of_another_table_go_by_name_too():
    table = ranking_table(4, series=False)
    other = replace(table, manifest=replace(table.manifest, actions=["share", "like"]))
    none = replace(table, actions=None, manifest=replace(table.manifest, actions=[]))
    own = reader(item_ids=IdMap(pa.array(np.arange(table.items))), values=())
    for user in range(table.users):
        bits, swapped, absent = (own.of_user(x, user).columns.actions for x in (table, other, none))
        assert (swapped == (bits >> 1 | (bits & 1) << 1)).all()
        assert (absent == 0).all() and len(absent) == len(bits)
