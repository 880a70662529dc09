"""Who is trained on what. A slow twin says it user by user."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Token, events, write_table

from louder.data.table import Table, open_table
from louder.data.targets import SplitConfig, split, target_rows
from louder.schema import Manifest

LEAVE_LAST_OUT = SplitConfig()


def table_of(users: list[list[Token]]) -> Table:
    """A table in memory, with two actions and one auxiliary series."""
    tokens = [token for user in users for token in user]
    manifest = Manifest(
        louder="0",
        command="",
        name="",
        sources=[],
        users=len(users),
        items=100,
        events=len(tokens),
        tokens=len(tokens),
        has_times=True,
        first_time=0,
        last_time=0,
        dropped={},
        filters={},
        actions=["like", "share"],
        series={"city": 100},
    )
    columns = {
        name: np.array([getattr(token, field) for token in tokens], dtype=kind)
        for name, field, kind in [
            ("ids", "id", np.int64),
            ("times", "time", np.int64),
            ("actions", "actions", np.int64),
            ("kinds", "kind", np.uint8),
        ]
    }
    offsets = np.cumsum([0, *map(len, users)])
    return Table(path=Path("memory"), manifest=manifest, offsets=offsets, **columns)


def spans(users, part, config=LEAVE_LAST_OUT, held_out=2, positive=0):
    """[(user, history rows, target row)], rows counted within the user"""
    table = table_of(users)
    found = split(table, part, config, held_out=held_out, positive=positive)
    return [
        (int(u), int(s - table.offsets[u]), int(last - table.offsets[u]))
        for u, s, last in zip(found.users, found.starts, found.lasts)
    ]


def twin(users, part, config, held_out, positive):
    """The same, one user at a time."""
    share = max(1, round(len(users) * config.test_users))
    found = []
    for u, tokens in enumerate(users):
        rows = [r for r, t in enumerate(tokens) if t.kind == 0 and (not positive or t.actions & positive)]
        if config.kind == "leave_last_out":
            back = {"test": 1, "validation": 2, "train": held_out + 1}[part]
            chosen = rows[-back:][:1] if len(rows) >= back else []
        elif config.kind == "users":
            from_the_end = len(users) - u  # 1 = the last user
            if from_the_end <= share:
                home = "test"
            elif held_out == 2 and from_the_end <= 2 * share:
                home = "validation"
            else:
                home = "train"
            chosen = rows[-1:] if home == part else []
        else:
            cut = config.validation_from if held_out == 2 else config.test_from
            low, high = {
                "train": (-np.inf, cut),
                "validation": (config.validation_from, config.test_from),
                "test": (config.test_from, np.inf),
            }[part]
            inside = [r for r in rows if low <= tokens[r].time < high]
            chosen = inside[-1:] if part == "train" else inside[:1]
        found += [(u, 0, row) for row in chosen if row > 0]
    return found


@st.composite
def logs(draw):
    """Up to 6 users with up to 8 tokens in time order: engagements with actions, and entries of a series."""
    token = st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 3), st.sampled_from([0, 0, 0, 1]))
    users = draw(st.lists(st.lists(token, max_size=8), min_size=1, max_size=6))
    return [sorted((Token(*values) for values in user), key=lambda t: t.time) for user in users]


configs = st.one_of(
    st.just(LEAVE_LAST_OUT),
    st.builds(SplitConfig, kind=st.just("users"), test_users=st.sampled_from([0.1, 0.3, 0.45])),
    st.builds(SplitConfig, kind=st.just("time"), validation_from=st.integers(0, 10), test_from=st.integers(11, 20)),
)


@given(logs(), configs, st.sampled_from([1, 2]), st.sampled_from(["train", "validation", "test"]), st.integers(0, 3))
def test_any_split_of_any_log_is_that_of_the_slow_twin(users, config, held_out, part, positive):
    assert spans(users, part, config, held_out, positive) == twin(users, part, config, held_out, positive)


def test_the_last_two_targets_are_held_out_under_validated():
    users = [events(0, 1, 2, 3, 4), events(5, 6, 7)]
    assert spans(users, "train") == [(0, 0, 2)]  # the second user has nothing before its first, the third from last
    assert spans(users, "validation") == [(0, 0, 3), (1, 0, 1)]
    assert spans(users, "test") == [(0, 0, 4), (1, 0, 2)]


def test_only_the_last_target_is_held_out_under_official():
    users = [events(0, 1, 2, 3, 4), events(5, 6, 7)]
    assert spans(users, "train", held_out=1) == [(0, 0, 3), (1, 0, 1)]
    assert spans(users, "test", held_out=1) == [(0, 0, 4), (1, 0, 2)]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_users_of_one_event_have_no_span(part):
    assert spans([events(0), [], events(1)], part) == []
    assert spans([[], []], part) == []


def test_entries_of_a_series_are_history_and_never_targets():
    city = Token(7, 0, 0, kind=1)
    users = [[city, Token(0, 1), city, Token(1, 2), city, Token(2, 3), city]]
    assert target_rows(table_of(users)).tolist() == [False, True, False, True, False, True, False]
    assert spans(users, "test") == [(0, 0, 5)]
    assert spans(users, "validation") == [(0, 0, 3)]
    assert spans(users, "train") == [(0, 0, 1)]  # an entry of a series before it is history enough


def test_only_positive_engagements_are_targets():
    users = [[Token(0, 0, 0b01), Token(1, 1, 0b10), Token(2, 2, 0b01), Token(3, 3, 0b00), Token(4, 4, 0b11)]]
    assert target_rows(table_of(users), 0b01).tolist() == [True, False, True, False, True]
    assert spans(users, "test", positive=0b01) == [(0, 0, 4)]
    assert spans(users, "validation", positive=0b01) == [(0, 0, 2)]
    assert spans(users, "train", positive=0b01) == []  # the third from last is the user's first event
    assert target_rows(table_of(users), 0b11).tolist() == [True, True, True, False, True]  # any of them


def test_by_time_the_target_is_the_first_after_the_cut_and_the_last_before_it():
    users = [events(0, 1, 2, 3, 4, 5, 6, gap=10)]  # at 0, 10, ... 60
    config = SplitConfig(kind="time", validation_from=20, test_from=40)
    assert spans(users, "train", config) == [(0, 0, 1)]
    assert spans(users, "validation", config) == [(0, 0, 2)]
    assert spans(users, "test", config) == [(0, 0, 4)]
    assert spans(users, "train", config, held_out=1) == [(0, 0, 3)]


@given(logs(), st.integers(0, 10), st.integers(11, 20), st.sampled_from([1, 2]))
def test_by_time_nothing_is_trained_on_at_or_after_the_cut(users, validation_from, test_from, held_out):
    config = SplitConfig(kind="time", validation_from=validation_from, test_from=test_from)
    cut = validation_from if held_out == 2 else test_from
    for u, first, last in spans(users, "train", config, held_out):
        assert max(token.time for token in users[u][first : last + 1]) < cut
    for u, _, last in spans(users, "test", config, held_out):
        assert users[u][last].time >= test_from


@given(logs(), st.sampled_from([0.1, 0.3, 0.45]), st.sampled_from([1, 2]))
def test_by_users_no_user_is_in_two_parts(users, share, held_out):
    config = SplitConfig(kind="users", test_users=share)
    parts = ["train", "test", *(["validation"] if held_out == 2 else [])]
    everybody = [u for part in parts for u, _, _ in spans(users, part, config, held_out)]
    assert len(everybody) == len(set(everybody))


def test_by_users_the_last_users_are_held_out():
    users = [events(0, 1, 2)] * 10
    config = SplitConfig(kind="users", test_users=0.2)
    assert [u for u, _, _ in spans(users, "train", config)] == [0, 1, 2, 3, 4, 5]
    assert [u for u, _, _ in spans(users, "validation", config)] == [6, 7]
    assert [u for u, _, _ in spans(users, "test", config)] == [8, 9]
    assert spans(users, "train", config)[0] == (0, 0, 2)  # nothing of a training user is held out


def test_a_table_from_files_splits_as_one_in_memory(tmp_path):
    users = [events(0, 1, 2, 3, 4), events(5), events(6, 7, 8)]
    table = open_table(write_table(tmp_path / "t", users))
    found = split(table, "test", LEAVE_LAST_OUT, held_out=2)
    assert (found.users.tolist(), found.starts.tolist(), found.lasts.tolist()) == ([0, 2], [0, 6], [4, 8])


def test_splits_are_the_same_whatever_is_set_that_their_kind_does_not_read():
    times = {"validation_from": 5, "test_from": 9}
    assert SplitConfig().divides_by == SplitConfig(**times, test_users=0.2).divides_by
    by_time = SplitConfig(kind="time", **times)
    assert by_time.divides_by == SplitConfig(kind="time", **times, test_users=0.2).divides_by
    assert by_time.divides_by != SplitConfig(kind="time", validation_from=5, test_from=8).divides_by
    assert SplitConfig(kind="users", test_users=0.2).divides_by != SplitConfig(kind="users").divides_by
