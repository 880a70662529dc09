"""What is told of items: kept, merged, shared by processes, in either store."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from louder.errors import InputError
from louder.histories import StoreGone
from louder.histories.files import FileStore
from louder.histories.items import ItemFacts, ItemUpdate, changed, open_items

NEW = ItemUpdate(4001, "New", {"genres": ["Drama"], "price": 12.5, "used": False})


@pytest.fixture
def opened(make):
    """Opened anew with every call, as by a service that starts again."""
    before = []

    def open_again():
        while before:
            before.pop().close()
        before.append(open_items(make()))
        return before[-1]

    yield open_again
    for items in before:
        items.close()


def test_an_update_changes_what_it_names_alone():
    facts = changed(ItemFacts(), NEW)
    assert facts == ItemFacts("New", {"genres": ["Drama"], "price": 12.5, "used": False}, True)
    gone = changed(facts, ItemUpdate(4001, available=False))
    assert gone == ItemFacts("New", facts.attributes, False)
    assert changed(gone, ItemUpdate(4001, available=True)) == facts
    cheaper = changed(facts, ItemUpdate(4001, "Old", {"price": 9, "used": None}))
    assert cheaper == ItemFacts("Old", {"genres": ["Drama"], "price": 9}, True)


def test_what_was_told_is_there_after_a_restart(opened):
    items = opened()
    assert items.since(0) == (0, {})
    items.update([NEW, ItemUpdate("a/ü", available=False)])
    items.update([ItemUpdate(4001, attributes={"price": 9}), ItemUpdate(4001, available=False)])
    told = {
        4001: ItemFacts("New", {"genres": ["Drama"], "price": 9, "used": False}, False),
        "a/ü": ItemFacts(available=False),
    }
    assert items.since(0)[1] == told
    assert opened().since(0) == (2, told)


def test_only_what_changed_since_is_read(opened):
    items = opened()
    items.update([ItemUpdate(n, f"t{n}") for n in range(5)])
    version, found = items.since(0)
    assert (version, len(found)) == (1, 5) and items.since(version) == (1, {})
    items.update([ItemUpdate(3, "later")])
    assert items.since(version) == (2, {3: ItemFacts("later")})
    items.update([ItemUpdate(3, "again"), ItemUpdate(7)])
    assert items.since(version) == (3, {3: ItemFacts("again"), 7: ItemFacts()})
    assert len(items.since(0)[1]) == 6


def test_processes_that_write_at_once_lose_nothing(make, url, opened):
    """Each of them tells another attribute of the same item, many times."""
    items = opened()
    code = (
        "import sys; from louder.histories import open_store; from louder.histories.items import ItemUpdate, open_items\n"
        "items = open_items(open_store(sys.argv[1]))\n"
        "for n in range(40): items.update([ItemUpdate(1, attributes={f'{sys.argv[2]}{n}': n})])"
    )
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", code, url, name], cwd=root) for name in "ab"]
    for n in range(40):
        items.update([ItemUpdate(1, attributes={f"c{n}": n})])
    assert [writer.wait(60) for writer in writers] == [0, 0]
    version, found = items.since(0)
    assert version == 120 and len(found[1].attributes) == 120


def test_a_damaged_file_is_said(tmp_path):
    store = FileStore(tmp_path / "h", keep=10)
    (tmp_path / "h" / "items.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"What is known of items cannot be .*not a database.*Choose another folder"):
        open_items(store)
    store.close()


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    store = FileStore(tmp_path / "h", keep=10)
    items = open_items(store)
    items.update([ItemUpdate(1, "one")])
    with pytest.raises(TypeError):
        items.update([ItemUpdate(1, "two"), ItemUpdate(2, {1, 2})])
    assert items.since(0) == (1, {1: ItemFacts("one")})
    items._file.execute("PRAGMA query_only = ON")  # as on a full or read-only disk
    with pytest.raises(StoreGone, match="readonly"):
        items.update([ItemUpdate(1, "two")])
    assert json.dumps(1) and items.since(0)[1] == {1: ItemFacts("one")}
    items.close()
    store.close()
