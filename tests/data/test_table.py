"""Opening a table: the order of users does not depend on the files, and damage is told."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Token, events, random_users, write_table

from louder.data.table import open_table, ranges, read_attributes
from louder.errors import InputError


def contents(table):
    return [
        [
            Token(int(table.ids[r]), int(table.times[r]), int(table.actions[r]), int(table.kinds[r]))
            for r in range(start, end)
        ]
        for start, end in zip(table.offsets[:-1], table.offsets[1:])
    ]


@settings(max_examples=30)
@given(data=st.data())
def test_users_split_over_parts_in_any_order_come_out_by_id(data, tmp_path_factory):
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    users = [[Token(u * 10 + i, i, i % 4, i % 2) for i in range(length)] for u, length in enumerate(lengths)]
    shuffled = data.draw(st.permutations(range(len(users))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(users)), max_size=3)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(users)])]
    folder = write_table(
        tmp_path_factory.mktemp("table") / "t", users, parts=parts, actions=["like", "share"], series={"city": 99}
    )
    assert contents(open_table(folder)) == users


def test_a_table_says_what_it_holds(tmp_path):
    table = open_table(write_table(tmp_path / "t", [events(0, 1), events(2)], items=7, titles=True))
    assert (table.users, table.items) == (2, 7)
    assert table.actions is None
    assert table.user_ids.id(101) == 1
    assert table.item_ids.raws([2]) == [1002]
    assert read_attributes(table.path, "items").column("title")[2].as_py() == "Title 2"
    assert read_attributes(tmp_path, "items") is None
    assert read_attributes(table.path, "users") is None


def test_names_of_actions_become_a_mask(tmp_path):
    table = open_table(write_table(tmp_path / "t", [events(0)], actions=["like", "share", "hide"]))
    assert table.action_mask(()) == 0
    assert table.action_mask(("hide", "like")) == 0b101
    with pytest.raises(InputError, match="has no action 'likes'; its actions are like, share, hide"):
        table.action_mask(("likes",))
    plain = open_table(write_table(tmp_path / "u", [events(0)]))
    with pytest.raises(InputError, match="has no action 'like'; it has no actions"):
        plain.action_mask(("like",))


def test_values_and_requests_are_read_if_asked_for(tmp_path):
    users = [[Token(0, 1), Token(1, 2), Token(5, 2, kind=1)], [], [Token(1, 3)]]
    watch, stars = [[1.5, np.nan, np.nan], [], [0.0]], [[5.0, 1.0, np.nan], [], [np.nan]]
    more = {"values": {"watch": watch, "stars": stars}, "requests": [[7, -1, -1], [], [7]]}
    folder = write_table(tmp_path / "t", users, parts=[[2, 0], [1]], series={"city": 9}, **more)
    plain = open_table(folder)
    assert (plain.values, plain.requests) == ({}, None)
    table = open_table(folder, values=["watch"], requests=True)
    assert list(table.values) == ["watch"]
    assert table.values["watch"].dtype == np.float32
    np.testing.assert_equal(table.values["watch"], np.array([1.5, np.nan, np.nan, 0.0], np.float32))
    assert table.requests.tolist() == [7, -1, -1, 7]
    with pytest.raises(InputError, match=r"has no value 'watched'; its values are watch, stars\..*--value watched=COL"):
        open_table(folder, values=["watched"])
    with pytest.raises(InputError, match="has no value 'watch'; it has no values"):
        open_table(write_table(tmp_path / "u", users), values=["watch"])


def test_events_of_one_request_of_one_user_go_together(tmp_path):
    users = [events(0, 1, 2, 3, 4), [Token(3, kind=1), *events(0, 1)]]
    asked = [[4, -1, 6, 4, -1], [-1, 4, 4]]
    folder = write_table(tmp_path / "t", users, series={"city": 9}, requests=asked)
    assert open_table(folder, requests=True).request_rows().tolist() == [0, 1, 2, 0, 4, 5, 6, 6]
    with pytest.raises(AssertionError, match="opened without requests"):
        open_table(folder).request_rows()
    none = open_table(write_table(tmp_path / "u", users, series={"city": 9}), requests=True)
    assert none.requests is None
    assert none.request_rows().tolist() == list(range(8))


@given(st.lists(st.lists(st.integers(-1, 3), max_size=6), min_size=1, max_size=4))
@settings(max_examples=30)
def test_requests_against_a_slow_twin(tmp_path_factory, asked):
    users = [events(*range(len(requests))) for requests in asked]
    folder = write_table(tmp_path_factory.mktemp("requests") / "t", users, items=6, requests=asked)
    met, expected = {}, []
    for user, requests in enumerate(asked):
        for request in requests:
            row = len(expected)
            expected.append(row if request < 0 else met.setdefault((user, request), row))
    assert open_table(folder, requests=True).request_rows().tolist() == expected


@pytest.fixture
def folder(tmp_path):
    return write_table(tmp_path / "t", random_users(20), items=15, parts=[range(10), range(10, 20)])


@settings(max_examples=20)
@given(share=st.floats(0, 0.99))
def test_a_part_cut_short_anywhere_is_refused(tmp_path_factory, share):
    folder = write_table(tmp_path_factory.mktemp("cut") / "t", random_users(5), items=15)
    part = folder / "sequences" / "part-00000.parquet"
    content = part.read_bytes()
    part.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"part-00000.parquet cannot be read .*\. Make the table again: louder etl"):
        open_table(folder)


def test_a_part_of_noise_is_refused(folder):
    (folder / "sequences" / "part-00001.parquet").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match=r"part-00001.parquet cannot be read"):
        open_table(folder)


def test_a_part_without_a_column_is_refused(folder):
    values = json.loads((folder / "manifest.json").read_text()) | {"actions": ["like"]}
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"part-00000.parquet has no column .actions., which its manifest speaks of"):
        open_table(folder)


def test_a_missing_part_is_noticed_by_the_number_of_users(folder):
    (folder / "sequences" / "part-00001.parquet").unlink()
    with pytest.raises(InputError, match="has 10 users, but its manifest says 20"):
        open_table(folder)


def test_a_table_without_parts_is_refused(folder):
    values = json.loads((folder / "manifest.json").read_text()) | {"users": 0}
    (folder / "manifest.json").write_text(json.dumps(values))
    for part in (folder / "sequences").iterdir():
        part.unlink()
    with pytest.raises(InputError, match="Make the table again"):
        open_table(folder)


def test_a_folder_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a sequence table"):
        open_table(tmp_path / "nowhere")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=6))
def test_ranges_are_laid_end_to_end(pairs):
    starts, lengths = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    assert ranges(starts, lengths).tolist() == [s + i for s, n in pairs for i in range(n)]
