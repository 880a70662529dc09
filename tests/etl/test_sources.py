"""Every raw format, on a few lines whose table is known."""

import gzip
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from louder.data.attributes import vectors
from louder.data.inspect import count, summary
from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table, read_spec

LINES = [(7, 30, 4.0, 1000), (7, 10, 3.0, 900), (5, 30, 5.0, 1000), (7, 20, 1.0, 1000)]
EXPECTED = {7: [(0, 10, 900, 3.0), (0, 30, 1000, 4.0), (0, 20, 1000, 1.0)], 5: [(0, 30, 1000, 5.0)]}
LIKED = {  # the same with the action like
    user: [(*event[:3], int(event[3] >= 4), event[3]) for event in rows] for user, rows in EXPECTED.items()
}


def write_1m(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r:.0f}::{t}\n" for u, i, r, t in LINES))
    films = "10::Amélie: a film (2001)::Comedy|Romance\n20::B::Drama\n30::C::Drama\n40::Never seen::War\n"
    (folder / "movies.dat").write_bytes(films.encode("latin-1"))
    (folder / "users.dat").write_text("5::F::25::3::01234\n7::M::35::4::98765-4321\n")
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{folder.name}/{file.name}")
    return path


@pytest.mark.parametrize("pack", [zipped, lambda folder: folder, lambda folder: folder / "ratings.dat"])
def test_movielens_1m(tmp_path, sequences, pack):
    manifest = build_table(pack(write_1m(tmp_path / "ml-1m")), tmp_path / "table")
    assert sequences(tmp_path / "table") == LIKED
    assert (manifest.users, manifest.items, manifest.events) == (2, 4, 4)
    assert (manifest.actions, manifest.values) == (["like"], ["rating"])
    assert (manifest.first_time, manifest.last_time) == (900, 1000)
    films = pq.read_table(tmp_path / "table" / "items.parquet").to_pylist()
    assert films[0] == {"title": "Amélie: a film (2001)", "genres": ["Comedy", "Romance"]}
    assert films[3]["title"] == "Never seen"
    users = pq.read_table(tmp_path / "table" / "users.parquet").to_pylist()
    assert users[0] == {"gender": "F", "age": 25, "occupation": 3, "zip": "01234"}


def test_movielens_20m(tmp_path, sequences):
    folder = tmp_path / "ml-20m"
    folder.mkdir()
    rows = "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in LINES)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n10,"Good, Bad (1966)",Western\n20,B,(no genres listed)\n30,C,Drama\n', "utf-8"
    )
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n")
    build_table(folder, tmp_path / "table")
    assert sequences(tmp_path / "table") == LIKED
    films = pq.read_table(tmp_path / "table" / "items.parquet").to_pylist()
    assert films[0] == {"title": "Good, Bad (1966)", "genres": ["Western"]}
    assert not films[1]["genres"]


def test_movielens_100k(tmp_path, sequences):
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r:.0f}\t{t}\n" for u, i, r, t in LINES))
    flags = ["0"] * 19
    flags[1] = flags[18] = "1"
    films = "".join(f"{i}|F{i}|01-Jan-1995||http://x|{'|'.join(flags)}\n" for i in (10, 20, 30))
    (folder / "u.item").write_text(films)
    (folder / "u.user").write_text("5|24|F|writer|85711\n7|33|M|other|T8H1N\n")
    build_table(zipped(folder), tmp_path / "table")
    assert sequences(tmp_path / "table") == LIKED
    assert pq.read_table(tmp_path / "table" / "items.parquet").to_pylist()[0] == {
        "title": "F10",
        "genres": ["Action", "Western"],
    }


def test_actions_that_are_named_take_the_place_of_like(tmp_path, sequences):
    spec = LogSpec(actions={"best": "rating == 5", "seen": "rating > 0"})
    manifest = build_table(write_1m(tmp_path / "ml-1m"), tmp_path / "table", spec=spec)
    assert manifest.actions == ["best", "seen"]
    assert sequences(tmp_path / "table")[5] == [(0, 30, 1000, 0b11, 5.0)]


def test_amazon_ratings_keep_the_zeros_of_an_id(tmp_path, sequences):
    log = tmp_path / "ratings_Books.csv"
    log.write_text("A2,0000000078,5.0,1092182400\nA1,0000000078,4.0,1092182400\nA2,0000000007,1.0,1000000000\n")
    manifest = build_table(log, tmp_path / "table")
    assert sequences(tmp_path / "table") == {
        "A2": [(0, "0000000007", 1_000_000_000, 1.0), (0, "0000000078", 1_092_182_400, 5.0)],
        "A1": [(0, "0000000078", 1_092_182_400, 4.0)],
    }
    assert manifest.name == "ratings_Books"


def test_a_split_log_is_put_together(tmp_path, sequences):
    folder = tmp_path / "grocery"
    folder.mkdir()
    for part, time in ("train", 100), ("dev", 200), ("test", 300):
        (folder / f"{part}.csv").write_text(f"user_id,item_id,time\n1,{time // 100},{time}\n")
    (folder / "item_meta.csv").write_text('item_id,i_category,r_complement\n1,5,"[2, 3]"\n9,6,"[]"\n')
    manifest = build_table(zipped(folder), tmp_path / "table")
    assert sequences(tmp_path / "table") == {1: [(0, 1, 100), (0, 2, 200), (0, 3, 300)]}
    assert manifest.items == 4  # 9 is in the attributes only
    attributes = pq.read_table(tmp_path / "table" / "items.parquet").to_pylist()
    assert attributes[0] == {"i_category": 5, "r_complement": [2, 3]}
    assert attributes[1] == {"i_category": None, "r_complement": None}


def test_ordered_sequences_without_times(tmp_path, sequences):
    with zipfile.ZipFile(tmp_path / "sets.zip", "w") as archive:
        archive.writestr("sets/Toys.txt", "1 5 3 5\n2 3\n")
        archive.writestr("sets/Toys_item2attributes.json", json.dumps({"3": [1, 2], "5": [2], "8": [9]}))
        archive.writestr("sets/Other.txt", "1 1\n")
    manifest = build_table(f"{tmp_path / 'sets.zip'}::Toys.txt", tmp_path / "table")
    assert sequences(tmp_path / "table") == {1: [(0, 5, 0), (0, 3, 1), (0, 5, 2)], 2: [(0, 3, 0)]}
    assert not manifest.has_times
    assert manifest.name == "Toys"
    assert pq.read_table(tmp_path / "table" / "items.parquet")["attributes"].to_pylist() == [[1, 2], [2], [9]]


ROWS = [{"user_id": u, "item_id": i, "rating": r, "timestamp": t} for u, i, r, t in LINES]


def as_csv(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("user_id,item_id,rating,timestamp\r\n" + "".join(f"{u},{i},{r},{t}\r\n" for u, i, r, t in LINES))
    return path


def as_gzip(path: Path) -> Path:
    path = path.with_suffix(".csv.gz")
    path.write_bytes(gzip.compress(as_csv(path).read_bytes()))
    return path


def as_tsv(path: Path) -> Path:
    path = path.with_suffix(".tsv")
    path.write_text(
        "\ufeffuser_id\titem_id\trating\ttimestamp\n" + "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in LINES),
        "utf-8",
    )
    return path


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_jsonl(path: Path) -> Path:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path.with_suffix(".jsonl")


def as_folder(path: Path) -> Path:
    path.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[2:]), path / "b.parquet")
    return path


@pytest.mark.parametrize("write", [as_csv, as_gzip, as_tsv, as_parquet, as_jsonl, as_folder])
def test_any_table(tmp_path, sequences, write):
    manifest = build_table(write(tmp_path / "log"), tmp_path / "table")
    assert sequences(tmp_path / "table") == EXPECTED
    assert manifest.name == "log"
    assert manifest.sources[0]["sha256"]
    assert sum(manifest.dropped.values()) + manifest.events == manifest.counts["rows read"] == 4


def test_several_files_in_the_order_given(tmp_path, sequences):
    for name, item in ("b", 1), ("a", 2):
        (tmp_path / f"{name}.csv").write_text(f"user_id,item_id,timestamp\n1,{item},50\n")
    build_table([tmp_path / "b.csv", tmp_path / "a.csv"], tmp_path / "table")
    assert sequences(tmp_path / "table") == {1: [(0, 1, 50), (0, 2, 50)]}


def test_quoted_fields_may_hold_delimiters_and_line_ends(tmp_path, sequences):
    (tmp_path / "log.csv").write_text('user_id,text,item_id,timestamp\n"a, b","two\nlines ""x""",1,50\n')
    build_table(tmp_path / "log.csv", tmp_path / "table")
    assert sequences(tmp_path / "table") == {"a, b": [(0, 1, 50)]}


def test_a_csv_without_header(tmp_path, sequences):
    (tmp_path / "log.csv").write_text("1;x;50\n1;y;40\n")
    columns = {"user_id": "column0", "item_id": "column1", "timestamp": "column2"}
    build_table(tmp_path / "log.csv", tmp_path / "table", spec=LogSpec(columns=columns))
    assert sequences(tmp_path / "table") == {1: [(0, "y", 40), (0, "x", 50)]}


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("ms", [1_600_000_000_250, 1_600_000_000_001]),
        ("us", [1_600_000_000_000_250, 1_600_000_000_000_001]),
        ("s", ["1600000000.25", "1600000000.0"]),
        ("auto", ["2020-09-13T12:26:40.25Z", "2020-09-13T14:26:40+02:00"]),
        ("auto", ["2020-09-13 12:26:40.5", "2020-09-13 12:26:40"]),
    ],
)
def test_units_of_time_order_by_the_full_value(tmp_path, sequences, unit, values):
    (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp\n1,1,{values[0]}\n1,2,{values[1]}\n")
    build_table(tmp_path / "log.csv", tmp_path / "table", spec=LogSpec(time_unit=unit))
    assert sequences(tmp_path / "table") == {1: [(0, 2, 1_600_000_000), (0, 1, 1_600_000_000)]}


def test_parquet_timestamps_need_no_unit(tmp_path, sequences):
    moment = datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
    for kind in (
        pa.timestamp("us", tz="UTC"),
        pa.timestamp("ns"),
        pa.timestamp("s"),
        pa.timestamp("ms", tz="Asia/Tokyo"),
    ):
        times = pa.array([moment if kind.tz else moment.replace(tzinfo=None)], kind)
        pq.write_table(pa.table({"user_id": [1], "item_id": [2], "timestamp": times}), tmp_path / "log.parquet")
        build_table(tmp_path / "log.parquet", tmp_path / "table", overwrite=True)
        assert sequences(tmp_path / "table") == {1: [(0, 2, 1_600_000_000)]}


def test_a_schema_file_with_everything(tmp_path, sequences):
    (tmp_path / "log.csv").write_text(
        "member,sku,ts,session,click,kind,seconds,city,likes_so_far\n"
        "a,x,1000,s2,1,buy,3.5,Rome,7\n"
        "a,y,2000,s2,0,view,,Rome,8\n"
        "a,x,3000,,true,view,2,Oslo,9\n"
        "b,y,1000,s1,0,buy,1,Rome,1\n"
    )
    (tmp_path / "products.csv").write_text("sku,price\nz,5\nx,7\n")
    (tmp_path / "ages.csv").write_text("member,ts,band\na,1,young\na,2,young\na,3,old\nzz,1,old\n")
    (tmp_path / "log.yaml").write_text(
        "columns: {user_id: member, item_id: sku, timestamp: ts, request_id: session}\n"
        "time_unit: ms\n"
        "actions: {click: click, buy: 'kind == buy', long: 'seconds >= 2'}\n"
        "values: {watch: seconds}\n"
        "series:\n"
        "  city: city\n"
        "  age: {file: ages.csv, user_id: member, timestamp: ts, value: band, time_unit: s}\n"
        "items: {file: products.csv}\n"
    )
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table", spec=read_spec(tmp_path / "log.yaml"))
    rows = sequences(tmp_path / "table")
    none = pytest.approx(float("nan"), nan_ok=True)
    assert rows["a"] == [
        (1, "Rome", 1, 0, none, -1),
        (2, "young", 1, 0, none, -1),
        (0, "x", 1, 0b111, 3.5, 1),
        (0, "y", 2, 0b000, none, 1),
        (1, "Oslo", 3, 0, none, -1),
        (2, "old", 3, 0, none, -1),
        (0, "x", 3, 0b101, 2.0, -1),
    ]
    assert rows["b"] == [(1, "Rome", 1, 0, none, -1), (0, "y", 1, 0b010, 1.0, 0)]
    assert manifest.actions == ["click", "buy", "long"]
    assert manifest.series == {"city": 2, "age": 2}
    assert manifest.has_requests
    assert manifest.left_out == ["likes_so_far"]
    assert (manifest.events, manifest.tokens, manifest.items) == (4, 9, 3)
    assert pq.read_table(tmp_path / "table" / "items.parquet")["price"].to_pylist() == [7, None, 5]


LISTS = {
    "id": [30, 10, 20],
    "genres": [["Drama", "War"], [], None],
    "tags": [[7], [8, 9], []],
    "text": [[0.5, -2.0], None, [3.0, 1.25]],
    "note": ["[x]", "[y]", ""],
    "empty": [[], [], None],
}


def items_csv(path):
    texts = {name: [x if isinstance(x, str) else json.dumps(x) for x in column] for name, column in LISTS.items()}
    texts = {name: ["" if x == "null" else x.replace('"', '""') for x in column] for name, column in texts.items()}
    rows = [",".join(f'"{x}"' for x in row) for row in zip(*texts.values())]
    path.with_suffix(".csv").write_text("\n".join([",".join(texts), *rows]))
    return path.with_suffix(".csv")


def items_jsonl(path):
    rows = [dict(zip(LISTS, row)) for row in zip(*LISTS.values())]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.with_suffix(".jsonl")


def items_parquet(path, text=None):
    lists = (
        pa.list_(pa.string()),
        pa.list_(pa.int64()),
        text or pa.list_(pa.float32()),
        pa.string(),
        pa.list_(pa.int64()),
    )
    columns = zip(LISTS.items(), (pa.int64(), *lists))
    pq.write_table(pa.table({name: pa.array(column, kind) for (name, column), kind in columns}), path)
    return path


def items_of_one_length(path):
    return items_parquet(path, pa.list_(pa.float32(), 2))


@pytest.mark.parametrize("write", [items_csv, items_jsonl, items_parquet, items_of_one_length])
def test_attributes_may_be_lists(tmp_path, write):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,10,1\n1,20,2\n1,30,3\n")
    file = write(tmp_path / "items.parquet")
    build_table(tmp_path / "log.csv", tmp_path / "table", spec=LogSpec(items=SideFile(file=str(file))))
    found = pq.read_table(tmp_path / "table" / "items.parquet")
    assert found["genres"].to_pylist() == [[], None, ["Drama", "War"]]
    assert found["tags"].to_pylist() == [[8, 9], [], [7]]
    assert found["empty"].to_pylist() == [[], None, []]
    assert [text or None for text in found["note"].to_pylist()] == ["[y]", None, "[x]"]
    (text,) = vectors(found, ["text"])
    assert text.matrix.tolist() == [[0, 0], [3.0, 1.25], [0.5, -2.0]]
    with pytest.raises(InputError, match="is a list of fractional numbers"):
        vectors(found, ["tags"])


def test_attributes_from_flags(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,50\n")
    (tmp_path / "films.csv").write_text("item_id,title\n2,two\n3,three\n")
    manifest = build_table(
        tmp_path / "log.csv", tmp_path / "table", spec=LogSpec(items=SideFile(file=str(tmp_path / "films.csv")))
    )
    assert manifest.items == 2


def test_a_real_archive(real, tmp_path):
    manifest = build_table(real("ml-1m-restored.zip"), tmp_path / "table")
    assert (manifest.users, manifest.items, manifest.events) == (6040, 3883, 1_000_209)
    with zipfile.ZipFile(real("ml-1m-restored.zip")) as archive:
        text = archive.read("ml-1m/ratings.dat").replace(b"::", b" ")
    user, item, rating, time = np.array(text.split(), np.int64).reshape(-1, 4).T
    order = np.lexsort([np.arange(len(user)), time, user])  # ties keep the order of the log
    (part,) = (tmp_path / "table" / "sequences").iterdir()
    found = pq.ParquetFile(part).read()
    films = pq.read_table(tmp_path / "table" / "vocabulary" / "item.parquet")["raw"].to_numpy()
    for name, expected in ("time", time), ("value.rating", rating):
        assert np.array_equal(found[name].combine_chunks().flatten().to_numpy(), expected[order])
    assert np.array_equal(films[found["id"].combine_chunks().flatten().to_numpy()], item[order])
    assert np.array_equal(pc.list_value_length(found["id"]).to_numpy(), np.unique(user, return_counts=True)[1])


def test_real_sets_of_amazon(real, tmp_path):
    grocery = build_table(real("amazon-grocery-5core-2014.zip"), tmp_path / "grocery", k_core=5)
    assert (grocery.users, grocery.items, grocery.events, grocery.dropped) == (14_681, 8_713, 151_254, {})
    beauty = build_table(f"{real('amazon-sequences-2014.zip')}::Beauty.txt", tmp_path / "beauty")
    assert (beauty.users, beauty.items, beauty.events) == (22_363, 12_101, 198_502)


def test_a_real_log_of_videos_shown(real, tmp_path):
    manifest = build_table(real("kuairand-pure-4_25_to_5_08.zip"), tmp_path / "table")
    assert (manifest.name, manifest.dropped) == ("kuairand-pure", {"exact duplicate": 5_877})
    assert (manifest.users, manifest.items, manifest.events) == (25_156, 7_583, 222_452)
    kept = build_table(real("kuairand-pure-4_25_to_5_08.zip"), tmp_path / "kept", drop_duplicates=False)
    assert (kept.dropped, kept.events) == ({}, 228_329)
    found = summary(count(tmp_path / "kept"))
    assert {name: action["events"] for name, action in found["actions"].items()} == {
        "click": 100_900,
        "like": 3_915,
        "follow": 304,
        "comment": 579,
        "forward": 195,
        "hate": 190,
        "long_view": 70_963,
        "profile_enter": 4_231,
    }
    assert found["lengths"]["max"] == 141
    assert found["cold_items"]["items"] == 7_583 - 6_361
    assert (manifest.values, found["values"]["play_time_ms"]["max"]) == (["play_time_ms"], 898_147)
    assert pq.read_table(tmp_path / "table" / "items.parquet").num_columns == 11
    users = pq.read_table(tmp_path / "table" / "users.parquet")
    assert (users.num_rows, users.num_columns) == (25_156, 30)


def test_kuairand_by_a_schema(real, tmp_path):
    archive = real("kuairand-pure-4_25_to_5_08.zip")
    (tmp_path / "kuairand.yaml").write_text(
        "columns: {item_id: video_id, timestamp: time_ms}\n"
        "time_unit: ms\n"
        "actions: {click: is_click, like: is_like, long_view: long_view}\n"
        "values: {watch: play_time_ms}\n"
        f"items: {{file: '{archive}::video_features_basic_pure.csv', id: video_id}}\n"
        "format: csv\n"
    )
    manifest = build_table(
        f"{archive}::log_standard_4_25_to_5_08_pure.csv", tmp_path / "table", spec=read_spec(tmp_path / "kuairand.yaml")
    )
    assert (manifest.users, manifest.items, manifest.events) == (25_156, 7_583, 228_329)
    bits = pa.concat_tables(pq.ParquetFile(p).read(["actions"]) for p in (tmp_path / "table" / "sequences").iterdir())
    clicks = sum(bit & 1 for row in bits["actions"].to_pylist() for bit in row)
    assert clicks == 100_900
