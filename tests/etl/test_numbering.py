"""Raw ids get their numbers, attributes their rows, users their parts."""

import hashlib

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.etl import LogSpec, SideFile, build_table
from louder.etl.numbering import attributes_by_id, numbered, vocabulary
from louder.etl.transform import user_hash
from louder.ids import IdMap

EXAMPLES = settings(max_examples=20, deadline=None)

texts = st.text(alphabet="aAzZ09 éß漢🎬", max_size=4)


@EXAMPLES
@given(st.one_of(st.lists(st.integers(0, 2**62), min_size=1, max_size=30), st.lists(texts, min_size=1, max_size=30)))
def test_a_vocabulary_is_sorted_and_numbered_from_zero(engine, in_engine, raws):
    expected = sorted(set(raws), key=lambda raw: raw.encode() if isinstance(raw, str) else raw)
    table, ids = vocabulary(engine, "user", in_engine(pa.table({"user": [*raws, None, *raws]})))
    assert ids.raw.to_pylist() == expected
    rows = table.to_pyarrow().to_pylist()
    assert {row["raw"]: row["number"] for row in rows} == {raw: number for number, raw in enumerate(expected)}
    assert len(rows) == len(expected)


def test_rows_without_a_number_are_left_out(engine, in_engine):
    table, _ = vocabulary(engine, "item", in_engine(pa.table({"item": ["b", "a"]})))
    events = in_engine(pa.table({"item": ["a", "c", "b", "a", None], "position": [0, 1, 2, 3, 4]}))
    for into in "item", "id":
        found = numbered(events, "item", table, into).order_by("position").to_pyarrow()
        assert set(found.column_names) == {into, "position"}
        assert list(zip(found["position"].to_pylist(), found[into].to_pylist())) == [(0, 0), (2, 1), (3, 0)]


def test_attributes_stand_in_the_order_of_the_ids():
    attributes = pa.table({"raw": ["30", "x", "10", "30", "020"], "title": ["c", "?", "a", "again", "not 20"]})
    found = attributes_by_id(attributes, IdMap(pa.array([10, 20, 30])))
    assert found.to_pylist() == [{"title": "a"}, {"title": None}, {"title": "c"}]  # the first row of an id counts
    numbers = pa.table({"raw": [7, 5], "title": ["seven", "five"]})
    assert attributes_by_id(numbers, IdMap(pa.array(["5", "6"]))).to_pylist() == [{"title": "five"}, {"title": None}]


@EXAMPLES
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_the_hash_of_an_integer(in_engine, raws):
    """The parts of a table made years ago must not change, whatever the engine."""
    expected = [int((raw % 2_147_483_647) * 2_654_435_761 % 4_294_967_296 / 65_536) for raw in raws]
    assert user_hash(in_engine(pa.table({"x": raws}))["x"]).as_table().to_pyarrow()[0].to_pylist() == expected


@EXAMPLES
@given(st.lists(texts, min_size=1, max_size=20))
def test_the_hash_of_a_text(in_engine, raws):
    expected = [int(hashlib.md5(raw.encode()).hexdigest()[:8], 16) for raw in raws]
    assert user_hash(in_engine(pa.table({"x": raws}))["x"]).as_table().to_pyarrow()[0].to_pylist() == expected


def test_ids_that_look_alike_stay_apart(tmp_path, sequences):
    """007 and 7 are two users, 12.7 and 13 two items: if one is written so, ids are texts, also where it comes late."""
    looks = [("007", "13"), ("7", "12.7"), ("7", "13"), ("007", "12.7")]
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{n}\n" for n, (u, i) in enumerate(looks))
    )
    build_table(tmp_path / "log.csv", tmp_path / "table")
    assert sequences(tmp_path / "table") == {
        "007": [(0, "13", 0), (0, "12.7", 3)],
        "7": [(0, "12.7", 1), (0, "13", 2)],
    }
    rows = "".join(f"{n},{n},1\n" for n in range(1000))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + rows + "007,13,2\n7,12.7,2\n07,12.7,2\n")
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table", overwrite=True)
    assert manifest.dropped == {}
    assert sequences(tmp_path / "table")["7"] == [(0, "7", 1), (0, "12.7", 2)]
    assert (manifest.users, manifest.items) == (1002, 1001)


def test_an_attribute_file_adds_items_but_not_other_spellings(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,7,1\n")
    (tmp_path / "films.csv").write_text("item_id,title\n7,seven\n8,eight\n007,bond\n12.7,no\n")
    spec = LogSpec(items=SideFile(file=str(tmp_path / "films.csv")))
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table", spec=spec)
    assert manifest.items == 2
