"""The manifest, and tables that are of another schema or none."""

import json

import pytest
from tables import events, write_table

from louder.errors import InputError
from louder.schema import SCHEMA_VERSION, Manifest, require_columns


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table", [events(0, 1)], actions=["like"], series={"city": 3})


def test_a_manifest_comes_back_equal(table):
    manifest = Manifest.read(table)
    manifest.write(table)
    assert Manifest.read(table) == manifest
    assert (manifest.users, manifest.items, manifest.events) == (1, 2, 2)
    assert (manifest.actions, manifest.series) == (["like"], {"city": 3})


def test_a_folder_without_a_manifest_is_no_table(tmp_path):
    with pytest.raises(InputError, match=r"is not a sequence table: it has no manifest.json. Make one: louder etl"):
        Manifest.read(tmp_path)


def test_another_schema_version_is_told(table):
    values = json.loads((table / "manifest.json").read_text()) | {"schema_version": SCHEMA_VERSION + 1}
    (table / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"schema version {SCHEMA_VERSION + 1}, but this Louder reads version"):
        Manifest.read(table)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1}', '"text"', "\x00"])
def test_a_damaged_manifest_is_told(table, text):
    (table / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest.json is damaged \(.*\)\. Make the table again: louder etl"):
        Manifest.read(table)


def test_a_missing_column_is_named_with_those_found():
    require_columns("log.csv", ["user_id", "item_id", "timestamp"])
    with pytest.raises(InputError, match=r"log.csv has no column 'timestamp'; its columns are user_id, item_id, ts"):
        require_columns("log.csv", ["user_id", "item_id", "ts"])
