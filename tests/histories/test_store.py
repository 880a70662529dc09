"""What every history store does."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.data.histories import histories, names_of
from louder.data.table import open_table
from louder.errors import InputError
from louder.histories import Deleted, Names, Stored, open_store
from louder.histories.arrivals import event_ids, request_number
from louder.histories.files import FileStore
from louder.histories.keys import key_of
from louder.histories.record import REMEMBERED
from louder.histories.redis import SEEN
from louder.ids import keys_of
from tests.histories.events import NAMES, event, events_of, rows
from tests.tables import Token, write_table

NONE = (None, None)


def test_events_come_back(make):
    store = make(names=NAMES)
    first = event(1, "a", 10, 5, actions=("like",), values={"rating": 2.5}, request="r")
    assert store.append([first, event(1, "b", 11, 6)]) == Stored(2, 0)
    store = make()
    expected = [(5, 10, 2, (None, 2.5), request_number("r")), (6, 11, 0, NONE, -1)]
    history = store.history(1)
    assert rows(history) == expected
    assert store.names == NAMES and history.version == 2 and history.total == 2
    assert request_number("r") >= 0


def test_an_unknown_user_has_an_empty_history(make):
    store = make(names=NAMES)
    for _ in range(2):
        history = store.history(1)
        assert rows(history) == [] and history.values.shape == (0, 2) and history.version == 0
        store.append([event(2, "a")])


def test_an_id_is_stored_once(make):
    store = make(names=NAMES)
    assert store.append([event(1, "a"), event(1, "a"), event(1, "b")]) == Stored(2, 1)
    assert store.append([event(1, "a"), event(1, "c")]) == Stored(1, 1)
    assert store.append([event(2, "a")]) == Stored(1, 0)  # of another user
    assert store.history(1).version == 3


def test_the_latest_ids_are_remembered(make):
    store = make(names=NAMES, keep=2)
    batch = [event(1, number, number) for number in range(REMEMBERED + 1)]
    store.append(batch)
    assert store.append(batch[1:]) == Stored(0, REMEMBERED)
    assert store.append(batch[:1]) == Stored(1, 0)


def test_late_events_are_put_in_their_place(make):
    store = make(names=NAMES, keep=3)
    store.append([event(1, "a", 20, 1), event(1, "b", 10, 2)])
    store.append([event(1, "c", 10, 3)])
    assert store.history(1).items.tolist() == [2, 3, 1]
    store.append([event(1, "d", 15, 4)])
    assert store.history(1).items.tolist() == [3, 4, 1]
    assert store.append([event(1, "e", 5, 5)]) == Stored(1, 0)  # older than all that are kept
    history = store.history(1)
    assert history.items.tolist() == [3, 4, 1] and history.version == history.total == 5


def test_texts_are_ids_too(make):
    store = make(names=NAMES)
    store.append([event("ü", "a", item="ö"), event("ua", "a", item="x" * 200), event("u", "b", item="")])
    assert store.history("ü").items.tolist() == ["ö"]
    assert store.history("ua").items.tolist() == ["x" * 200]
    assert store.history("?").items.dtype == object
    assert store.users() == list(store) == ["u", "ua", "ü"]
    assert store.users("u") == ["u", "ua"] and store.users("u", limit=1) == ["u"]


def test_numbers_are_found_by_their_digits(make):
    store = make(names=NAMES)
    users = [-12, -1, 0, 1, 2, 10, 12, 120, 2**63 - 1, -(2**63)]
    store.append([event(user, "a") for user in users])
    assert store.users() == list(store) == sorted(users)
    assert store.users("1") == [1, 10, 12, 120] and store.users("12", limit=1) == [12]
    assert store.users("-1") == [-12, -1] and store.users("x") == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (event("1", "b"), "user ids of the store are integers, but '1' is a text"),
        (event(1, "b", item="7"), "item ids of the store are integers, but '7' is a text"),
        (event(1 << 63, "b"), "does not fit into 64 bits"),
        (event(1, "b", actions=("buy",)), "no action 'buy'; its actions are click, like"),
        (event(1, "b", values={"money": 1.0}), "no value 'money'; its values are seconds, rating"),
        (event(1, "b", values={"rating": 1e39}), "32 bits do not hold"),
        (event(1, "b", 1_700_000_000_000), "looks like milliseconds"),
    ],
)
def test_a_wrong_event_stores_nothing_of_its_batch(make, wrong, sentence):
    store = make(names=NAMES)
    for before in range(2):
        with pytest.raises(InputError, match=sentence):
            store.append([event(1, "a"), wrong])
        assert store.history(1).version == before
        store.append([event(1, "first")])


def test_asking_for_a_user_of_the_wrong_kind_is_refused(make):
    store = make(names=NAMES)
    store.append([event("a", "a")])
    with pytest.raises(InputError, match="user ids of the store are texts, but 1 is an integer"):
        store.history(1)
    with pytest.raises(InputError, match="600 bytes"):
        store.history("中" * 200)


def test_actions_may_be_added_at_the_end(make):
    make(names=NAMES).append([event(1, "a", actions=("like",))])
    more = replace(NAMES, actions=(*NAMES.actions, "buy"))
    store = make(names=more)
    store.append([event(1, "b", 1, actions=("buy",))])
    assert store.history(1).actions.tolist() == [2, 4]
    assert make().names == more
    assert make(names=NAMES).names == more  # a service that went back
    for wrong in Names(("like", "click"), NAMES.values), Names(more.actions, ("seconds",)):
        with pytest.raises(InputError, match="holds actions click, like, buy and values seconds, rating, but"):
            make(names=wrong)


def test_first_contents_then_events(make):
    store = make(names=NAMES, keep=3)
    assert not store.filled()
    store.append([event(1, "a", 25, 9)])
    assert store.fill([(1, events_of([1, 2, 3], [10, 20, 30], total=8)), (2, events_of([4], [5]))]) == 2
    assert store.filled() and make(keep=3).filled()
    store = make(keep=3)
    history = store.history(1)
    assert history.items.tolist() == [2, 9, 3] and history.total == history.version == 9
    assert store.append([event(1, "a", 25, 9), event(2, "b", 6, 5)]) == Stored(1, 1)
    assert store.history(2).items.tolist() == [4, 5]
    with pytest.raises(InputError, match="filled already"):
        store.fill([])


def test_an_interrupted_fill_starts_over(make, monkeypatch):
    monkeypatch.setattr("louder.histories.store.FILL_USERS", 1)

    def interrupted():
        yield 1, events_of([1, 2], [10, 20])
        yield 2, events_of([1], [10])
        raise KeyboardInterrupt

    store = make(names=NAMES)
    with pytest.raises(KeyboardInterrupt):
        store.fill(interrupted())
    assert not store.filled()
    store.append([event(1, "a", 15, 9)])
    assert store.fill((user, events_of([1, 2], [10, 20])) for user in (1, 2, 3)) == 3
    assert [store.history(user).items.tolist() for user in (1, 2, 3)] == [[1, 9, 2], [1, 2], [1, 2]]
    assert store.history(2).total == 2 and store.history(2).version > 1


def test_first_contents_come_from_a_table(make, tmp_path):
    tokens = [Token(0, 5, 1), Token(3, 6, kind=1), Token(1, 7, 2)]
    folder = write_table(
        tmp_path / "table",
        [tokens, [Token(0, 1, kind=1)], [Token(1, 2)]],
        actions=["click"],
        series={"genre": 4},
        raw_items=["x", "y"],
        values={"seconds": [[1.5, np.nan, np.nan], [np.nan], [2.5]]},
        requests=[[3, -1, 4], [-1], [-1]],
    )
    table = open_table(folder, values=["seconds"], requests=True)
    store = make(names=names_of(table))
    assert store.fill(histories(table)) == 2
    assert list(store) == [100, 102]
    assert rows(store.history(100)) == [("x", 5, 1, (1.5,), 3), ("y", 7, 2, (None,), 4)]
    ((_, last), _) = histories(open_table(folder), keep=1)
    assert rows(last) == [("y", 7, 2, (), -1)] and last.total == 2


def test_items_of_events_that_are_dropped_stay(make):
    store = make(names=NAMES, keep=2)
    store.append([event(1, number, number, item) for number, item in enumerate([3, 4, 3, 5, 6])])
    store.fill([(2, events_of([7, 8, 9], [1, 2, 3], older=np.array([1, 2]), total=9))])
    store = make(keep=2)
    assert store.history(1).older.tolist() == [4, 3] and store.history(1).items.tolist() == [5, 6]
    assert store.history(2).older.tolist() == [1, 2, 7] and store.history(2).dropped == 7
    store.append([event(2, "a", 0, 6)])
    assert store.history(2).older.tolist() == [1, 2, 7, 6] and store.history(2).items.tolist() == [8, 9]


def test_the_same_of_texts_and_of_a_table(make, tmp_path):
    tokens = [Token(item, time) for time, item in enumerate([0, 2, 0, 1, 2])]
    table = open_table(write_table(tmp_path / "table", [tokens], raw_items=["ü", "yy", "zzz"]))
    store = make(keep=2)
    store.fill(histories(table, keep=2))
    keys = dict(zip(["ü", "yy", "zzz"], keys_of(np.array(["ü", "yy", "zzz"], object)).tolist()))
    assert store.history(100).items.tolist() == ["yy", "zzz"]
    assert store.history(100).older.tolist() == [keys["zzz"], keys["ü"]]
    store.append([event(100, "a", 9, "")])
    older = make(keep=2).history(100).older
    assert older.tolist() == [keys["zzz"], keys["ü"], keys["yy"]]
    assert table.item_ids.ids_of_keys(older).tolist() == [2, 0, 1]


def test_an_event_is_deleted(make):
    store = make(names=NAMES)
    store.append([event(1, "a", 1, 5), event(1, "b", 1, 5, actions=("like",)), event(2, "a", 1, 6)])
    assert store.delete_event(1, "b") == Deleted(True, True)
    store = make()
    assert rows(store.history(1)) == [(5, 1, 0, NONE, -1)] and store.history(1).total == 1
    assert store.delete_event(1, "b") == Deleted(False, True)
    assert store.append([event(1, "b", 1, 5), event(1, "a", 1, 5)]) == Stored(0, 1, deleted=1)
    assert store.delete_event(1, "c") == store.delete_event(3, "a") == Deleted(False, False)
    assert store.append([event(1, "c", 9), event(3, "a", 9), event(2, "c", 9)]) == Stored(1, 0, deleted=2)
    assert store.history(2).items.tolist() == [6, 7] and len(store.history(3)) == 0


def test_a_user_is_deleted(make):
    store = make(names=NAMES, keep=2)
    store.append([event(user, number, number) for user in (1, 2) for number in range(3)])
    assert (store.delete_user(1), store.delete_user(1), store.delete_user(3)) == (3, 0, 0)
    store = make(keep=2)
    assert store.users() == list(store) == [2] and len(store.history(1)) == 0
    assert (store.history(1).total, store.history(1).version, len(store.history(1).older)) == (0, 0, 0)
    now = int(time.time())
    later = event(1, "later", now + 60)
    assert store.append([event(1, 0), event(1, "x", now - 5), later]) == Stored(1, 0, deleted=2)
    assert store.fill((user, events_of([1], [10])) for user in (1, 3, 4)) == 3
    assert store.users() == [1, 2, 4] and store.history(1).times.tolist() == [now + 60]
    assert store.append([later]) == Stored(0, 1)
    assert (store.delete_user(1), store.append([later])) == (1, Stored(0, 0, deleted=1))  # its clock was ahead
    assert store.users() == [2, 4]


def test_nothing_of_a_deleted_user_is_left_in_the_files(tmp_path):
    """But pages of the file that are free keep their bytes until they are written again."""
    store = open_store(str(tmp_path / "store"), names=NAMES)
    store.append([event("somebody", "a", item="something")])
    store.delete_user("somebody")
    rest = store._run(lambda txn: [bytes(x) for part in store._parts for pair in txn.cursor(db=part) for x in pair])
    assert len(rest) == 2 and not any(b"some" in x for x in rest)
    store.close()


def test_who_deletes_wins_over_who_appends(make):
    """Whichever comes first: what was sent before a deletion is never there after it."""
    store = make(names=NAMES)

    def write(user, count):
        for number in range(count):
            store.append([event(user, f"{number}", number), event(user, f"{number}-{user}", number)])

    for user in range(8):
        writers = [threading.Thread(target=write, args=(user, 6)) for _ in range(3)]
        [thread.start() for thread in writers]
        if user % 2:
            store.delete_user(user)
        else:
            for number in range(6):
                store.delete_event(user, f"{number}")
        [thread.join() for thread in writers]
        left = [] if user % 2 else list(range(6))
        assert store.history(user).times.tolist() == left and store.history(user).total == len(left)


def test_ids_that_an_older_louder_wrote_are_read(make):
    store = make(names=NAMES)
    events = [event(1, "a", 1), event(1, "b", 2)]
    store.append(events)
    old = np.array([2, *event_ids(events)], "<i8").tobytes()
    if isinstance(store, FileStore):
        store._run(lambda txn: txn.put(key_of(1), old, db=store._parts[1]), write=True)
    else:
        store._writer.set(SEEN + key_of(1), old)
    assert store.append([*events, event(1, "c", 3)]) == Stored(1, 2)
    assert store.delete_event(1, "a") == Deleted(False, True)  # which event that was is not known
    assert store.delete_event(1, "c") == Deleted(True, True) and store.history(1).times.tolist() == [1, 2]


def test_all_users_are_read_by_pages(make, monkeypatch):
    monkeypatch.setattr("louder.histories.store.PAGE", 2)
    store = make(names=NAMES)
    for count in range(1, 6):
        store.append([event(count, "a")])
        assert list(store) == list(range(1, count + 1))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_first_contents_are_written_by_parts(make, monkeypatch, count):
    monkeypatch.setattr("louder.histories.store.FILL_USERS", 2)
    store = make(names=NAMES)
    empty = events_of([1], [1]).select(slice(0, 0))
    assert store.fill([(99, empty), *((user, events_of([user, 7], [1, 2])) for user in range(count))]) == count
    assert list(store) == list(range(count))
    for user in range(count):
        history = store.history(user)
        assert history.items.tolist() == [user, 7] and history.total == history.version == 2
        assert history.names == NAMES


@pytest.mark.parametrize(
    ("text", "user"),
    [("7", 7), ("0", 0), ("-7", -7), ("-0", "-0"), ("007", "007"), ("7a", "7a"), ("1" * 20, "1" * 20), ("", "")],
)
def test_a_user_in_a_text_is_an_integer_where_it_is_written_like_one(tmp_path, text, user):
    numbers, texts = (open_store(str(tmp_path / name), names=NAMES) for name in ("numbers", "texts"))
    assert numbers.user_in(text) == user
    numbers.append([event(1, "a")])
    texts.append([event("1", "a")])
    assert (numbers.user_in(text), texts.user_in(text)) == (user, text)
    numbers.close()
    texts.close()


def test_limits_count_over_all_ranges_of_a_prefix(make):
    store = make(names=NAMES)
    store.append([event(user, "a") for user in (1, 10, 11, 100, 2)])
    assert [store.users("1", limit) for limit in (1, 2, 3, 4, 9)] == [
        [1],
        [1, 10],
        [1, 10, 11],
        [1, 10, 11, 100],
        [1, 10, 11, 100],
    ]
    assert store.users("", 3) == [1, 2, 10] and len(store.users()) == 5


@st.composite
def batches(draw):
    one = st.tuples(
        st.integers(0, 2), st.integers(0, 30), st.integers(0, 5), st.integers(0, 9), st.sampled_from([(), ("like",)])
    )
    return draw(st.lists(st.lists(one, max_size=6), max_size=6))


def test_agrees_with_a_list_of_all_events(make):
    """The plain twin keeps everything, sorts it by time and takes the end."""
    store, keep, run = make(names=NAMES, keep=4), 4, iter(range(1_000))

    @settings(max_examples=30)
    @given(batches())
    def check(example):
        offset = 10 * next(run)  # other users in each example, in one store
        arrived, ids = {}, set()
        for batch in example:
            new = [event(offset + user, id, time, item, actions=does) for user, id, time, item, does in batch]
            before = len(ids)
            for one in new:
                if (one.user, one.id) not in ids:
                    ids.add((one.user, one.id))
                    arrived.setdefault(one.user, []).append(one)
            assert store.append(new) == Stored(len(ids) - before, len(new) - len(ids) + before)
        for user in range(offset, offset + 3):
            kept = sorted(arrived.get(user, []), key=lambda one: one.time)[-keep:]
            history = store.history(user)
            assert rows(history) == [(one.item, one.time, 2 if one.actions else 0, NONE, -1) for one in kept]
            assert history.version == history.total == len(arrived.get(user, []))

    check()


def test_threads_share_a_store(make):
    store = make(names=NAMES)

    def write(thread):
        for number in range(10):
            store.append([event(1, f"{thread}-{number}", number), event(thread + 2, number, number)])
            store.history(1)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    history = store.history(1)
    assert history.total == history.version == 40 and (np.diff(history.times) >= 0).all()
    assert [store.history(user).version for user in (2, 3, 4, 5)] == [10] * 4


def test_says_what_an_event_survives(make):
    assert "crash" in make().durability()


@pytest.mark.parametrize(
    ("url", "keep", "sentence"),
    [
        ("mysql://x", 5, "no store for mysql://"),
        ("x", 0, "at least 1 event"),
        ("redis://x:y", 5, "address of the store is wrong"),
    ],
)
def test_a_wrong_address_is_told(url, keep, sentence):
    with pytest.raises(InputError, match=sentence):
        open_store(url, keep=keep)


def test_up_to_where_a_log_was_read_is_kept_for_each_log(make):
    store = make(names=NAMES)
    assert store.followed("a") == {}
    store.follow("a", {0: 3, 1: 0})
    store.follow("b", {0: 1})
    store.follow("a", {0: 4, 1: 2})
    store.append([event(1, "x")])
    again = make(names=NAMES)
    assert (again.followed("a"), again.followed("b"), again.followed("c")) == ({0: 4, 1: 2}, {0: 1}, {})


def test_a_deletion_of_a_time_is_done_once(make):
    store = make(names=NAMES)
    first = event(1, "x")
    store.append([first])
    assert store.delete_user(1, at=first.time) == 1
    store.append([first, replace(first, id="y", time=first.time + 1)])
    assert store.delete_user(1, at=first.time) == 0
    assert store.history(1).times.tolist() == [first.time + 1]
    assert store.delete_user(1, at=first.time + 1) == 1 and not len(store.history(1))
