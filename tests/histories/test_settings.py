"""What is true of a whole store."""

import json

import pytest

from louder.errors import InputError
from louder.histories import StoreDamaged
from louder.histories.history import Names
from louder.histories.settings import INTEGER, TEXT, StoreSettings, opened, read, require_kind, settled, written
from tests.histories.events import NAMES

MORE = Names((*NAMES.actions, "buy"), NAMES.values)


def test_settings_come_back():
    for settings in StoreSettings(NAMES), StoreSettings(Names()), StoreSettings(MORE, TEXT, INTEGER, True):
        assert read(written(settings)) == settings
    assert read(None) is None


def test_what_was_followed_comes_back_and_is_not_told_where_there_is_nothing():
    """An older Louder reads a store that follows no log."""
    assert b"followed" not in written(StoreSettings(Names()))
    settings = StoreSettings(Names(), followed={"a": {0: 5, 11: 7}})
    assert read(written(settings)) == settings


def test_damage_and_another_format_are_told():
    good = json.loads(written(StoreSettings(NAMES)))
    for damaged in (
        b"{",
        b"[]",
        b"{}",
        json.dumps({**good, "names": {}}).encode(),
        json.dumps({**good, "x": 1}).encode(),
    ):
        with pytest.raises(StoreDamaged, match="settings of the store are damaged"):
            read(damaged)
    with pytest.raises(InputError, match="has format 2, but this Louder reads format 1"):
        read(json.dumps({**good, "format": 2}).encode())


def test_actions_may_be_added_at_the_end_and_nothing_else_changes():
    old = StoreSettings(NAMES, TEXT, TEXT, True)
    assert opened(None, None) == StoreSettings(Names()) and opened(None, NAMES) == StoreSettings(NAMES)
    assert opened(old, None) is old and opened(old, NAMES) is old
    assert opened(old, MORE) == StoreSettings(MORE, TEXT, TEXT, True)
    later = StoreSettings(MORE)
    assert opened(later, NAMES) is later  # a service that went back
    for other in (
        Names(("like", "click"), NAMES.values),
        Names(NAMES.actions, ("rating", "seconds")),
        Names(NAMES.actions),
    ):
        with pytest.raises(InputError, match="holds actions click, like and values seconds, rating, but"):
            opened(old, other)
    with pytest.raises(InputError, match="but the service has no actions and no values; only"):
        opened(old, Names())


def test_63_actions_fit_and_64_do_not():
    names = tuple(f"a{n}" for n in range(64))
    assert opened(None, Names(names[:63])).names.actions == names[:63]
    with pytest.raises(InputError, match="at most 63 actions, but there are 64"):
        opened(None, Names(names))


def test_the_first_ids_settle_their_kinds():
    first = settled(StoreSettings(NAMES), 1, "x")
    assert (first.users, first.items) == (INTEGER, TEXT)
    assert settled(first, "a", 2) == first


@pytest.mark.parametrize(("raw", "kind"), [(1, TEXT), ("1", INTEGER)])
def test_the_other_kind_is_refused(raw, kind):
    with pytest.raises(InputError, match=f"The user ids of the store are {kind}, but {raw!r} is a"):
        require_kind("user", raw, kind)
    require_kind("user", raw, None)
    require_kind("user", raw, TEXT if kind == INTEGER else INTEGER)


def test_integers_have_64_bits():
    for fits in -(1 << 63), (1 << 63) - 1:
        require_kind("item", fits, INTEGER)
    for beyond in -(1 << 63) - 1, 1 << 63:
        with pytest.raises(InputError, match=f"The item id {beyond} does not fit into 64 bits"):
            require_kind("item", beyond, None)
