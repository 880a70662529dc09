"""Files of every form: what is read is what the log says, and what cannot be is counted or refused by name."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, build_table
from louder.etl.files import by_number, partition_of
from louder.etl.sources import words_only, words_or_columns
from louder.etl.sources.csv import OTHER_COLUMNS, inside_quotes, open_csv
from louder.etl.sources.csv_form import guess_delimiter
from louder.etl.sources.plain import kind_of
from louder.etl.spec import TextForm

T = 1_700_000_000
ROWS = [(1, 20, T), (2, 30, T + 100), (1, 30, T + 200)]
WANTED = ["user_id", "item_id", "timestamp"]
EXPECTED = {1: [(0, 20, T), (0, 30, T + 200)], 2: [(0, 30, T + 100)]}


def csv(delimiter=",", header=True, rows=ROWS, end="\n"):
    lines = [WANTED] * header + [[str(cell) for cell in row] for row in rows]
    return "".join(delimiter.join(line) + end for line in lines)


def columns_of(path, text=TextForm(), wanted=WANTED, chosen=None):
    table = open_csv("raw", [(path, path.name)], path.parent, wanted, text=text)
    stored = table.stored(chosen or table.columns)
    return stored.table().to_pydict(), stored.rejected


def log(tmp_path, content, name="log.csv"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


USERS = {"user_id": ["1", "2", "1"], "item_id": ["20", "30", "30"], "timestamp": [str(row[2]) for row in ROWS]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " "])
def test_the_delimiter_is_seen(delimiter, end, tmp_path):
    assert columns_of(log(tmp_path, csv(delimiter, end=end))) == (USERS, {})


@pytest.mark.parametrize(
    ("named", "delimiter"), [("tab", "\t"), ("\\t", "\t"), ("space", " "), ("^", "^"), ("semicolon", ";"), ("##", "##")]
)
def test_a_delimiter_can_be_named(named, delimiter, tmp_path):
    assert columns_of(log(tmp_path, csv(delimiter)), TextForm(named)) == (USERS, {})


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "é"])
def test_a_delimiter_that_cannot_be_one_is_told(delimiter):
    with pytest.raises(InputError, match=r"it must be one character.*--delimiter ';'"):
        TextForm(delimiter)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1;4,5;7", "2;5,0;8"], ";"),  # decimals
        (["user_id;note", "1;a, b, c", "2;d"], ";"),
        (["user_id,note", "1,a;b;c", "2,d;e;f"], ","),
        (["a b,c d,e", "f g,h i,j"], ","),
        (["user_id item_id note", "1 2 a,b", "3 4 c,d"], " "),
        (["1\t2,3", "4\t5,6"], "\t"),
        (["1::a|b::3", "2::c|d::4"], "::"),
        (["title", "a, b"], ","),
    ],
)
def test_the_delimiter_is_chosen_by_all_lines(lines, expected):
    assert guess_delimiter(lines, WANTED, "log") == expected


def test_a_delimiter_that_is_one_or_another_is_asked_for():
    with pytest.raises(
        InputError, match=r"log may be separated by commas or by semicolons\. Say which: --delimiter ','"
    ):
        guess_delimiter(["a,b;c,d;e", "f,g;h,i;j"], [], "log")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"])
def test_encodings(encoding, tmp_path):
    text = csv(rows=[("jérôme", "ü", T), ("b", "ß", T)])
    path = log(tmp_path, text.encode(encoding))
    known = encoding in ("utf-8", "utf-8-sig", "utf-16")
    found, _ = columns_of(path, TextForm(encoding="auto" if known else encoding))
    assert (found["user_id"], found["item_id"]) == (["jérôme", "b"], ["ü", "ß"])


def test_a_text_of_another_encoding_says_what_to_type(tmp_path):
    path = log(tmp_path, csv(rows=[("jérôme", "ü", T)]).encode("cp1252"))
    with pytest.raises(InputError, match=r"not text in UTF-8.*--encoding cp1252"):
        columns_of(path)
    for name in "klingon", "base64", "rot13", "\0", "":
        with pytest.raises(InputError, match=r"There is no encoding .*--encoding latin-1"):
            columns_of(path, TextForm(encoding=name))
    with pytest.raises(InputError, match=r"is not text in (ascii|utf-16)"):
        columns_of(path, TextForm(encoding="ascii"))


def test_a_letter_that_is_cut_between_two_blocks_is_whole(tmp_path):
    from louder.etl.sources.csv import Text

    path = log(tmp_path, "üü\nüü".encode("utf-16"))
    text, data = Text(path, "utf-16", True), b""
    while piece := text.read(3):
        data += piece
    assert data.decode() == "üü\nüü"
    assert text.lines() == 2


@pytest.mark.parametrize("blank", ["\n", "\n\n", "  \n", "\r\n"])
def test_blank_lines_are_no_rows(blank, tmp_path):
    lines = csv().splitlines(keepends=True)
    assert columns_of(log(tmp_path, blank + "".join(lines[:2]) + "\n" + "".join(lines[2:]) + "\n\n")) == (USERS, {})


QUOTED = ["user_id,item_id,timestamp,title"] + [f"{n},{n},{T + n},title {n}" for n in range(40)]


def with_titles(**titles):
    lines = list(QUOTED)
    for at, title in titles.items():
        n = int(at.removeprefix("row"))
        lines[n + 1] = f"{n},{n},{T + n},{title}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("titles", "line"),
    [
        ({"row7": '"open'}, 9),
        ({"row38": '"open'}, 40),
        ({"row7": '"open', "row30": '"open too'}, 9),
        ({"row7": '"open', "row9": 'closed"'}, 9),
        ({"row3": '"fine, and whole"', "row20": '"open'}, 22),
        ({"row3": '"two\nlines"', "row20": '"open'}, 23),
        ({"row0": '"open'}, 2),
        ({"row7": '"a ""b"" c'}, 9),
        ({"row7": '5" disk', "row20": '"open'}, 22),
    ],
)
def test_a_quote_that_is_never_closed_is_told_by_its_line(titles, line, tmp_path):
    with pytest.raises(InputError, match=rf"The quote in line {line} of log\.csv is never closed.*--quote none"):
        columns_of(log(tmp_path, with_titles(**titles)))


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ('"a, b"', "a, b"),
        ('"two\nlines"', "two\nlines"),
        ('"three\n\nlines, with\nmore"', "three\n\nlines, with\nmore"),
        ('"1,2\n3,4\n5,6"', "1,2\n3,4\n5,6"),
        ('"say ""so"""', 'say "so"'),
        ('5" disk', '5" disk'),
        ('""', ""),
        ('"" ', " "),
    ],
)
def test_texts_in_quotes(title, expected, tmp_path):
    found, rejected = columns_of(log(tmp_path, with_titles(row7=title, row8='"x"')))
    assert (found["title"][7], len(found["title"]), rejected) == (expected, 40, {})


@pytest.mark.parametrize("quote", ["none", '"'])
def test_quotes_can_mean_nothing(quote, tmp_path):
    path = log(tmp_path, with_titles(row7='"open'))
    if quote == "none":
        found, _ = columns_of(path, TextForm(quote="none"))
        assert (found["title"][7], len(found["title"])) == ('"open', 40)
    else:
        with pytest.raises(InputError, match="never closed"):
            columns_of(path, TextForm(quote=quote))


@pytest.mark.parametrize(
    ("line", "inside", "expected"),
    [
        ("a,b", False, False),
        ('a,"b', False, True),
        ('a,"b"', False, False),
        ('a,b"', False, False),
        ('"a""', False, True),
        ('"a"""', False, False),
        ('end",x', True, False),
        ('end",x,"y', True, True),
        ("middle", True, True),
        ('x""y', True, True),
        ('"', True, False),
        ('"a" b,"c', False, True),
        ("", False, False),
    ],
)
def test_where_quotes_open_and_close(line, inside, expected):
    assert inside_quotes(line + "\n", ",", inside) == expected


def test_lines_that_do_not_parse_are_counted_and_too_many_refused(tmp_path):
    good = csv()
    found, rejected = columns_of(log(tmp_path, good + "1,2\n1,2,3,4\n"))
    assert (found, rejected) == (USERS, {OTHER_COLUMNS: 2})
    with pytest.raises(
        InputError, match=r"4 of the 7 lines of log\.csv have another number of columns than 3.*--delimiter"
    ):
        columns_of(log(tmp_path, good + "1,2\n" * 4))


@pytest.mark.parametrize(
    ("lines", "spec", "expected"),
    [
        (["1 2 3", "2 4"], {}, "sequences"),
        (["1 2 3 4 5"], {}, "sequences"),
        (["1 2 3 4 5 6 7 8 9", "2 3 4 5 6 7 8 9 1"], {}, "sequences"),
        (["user_id item_id timestamp", "1 2 3"], {}, "csv"),
        (["who what", "a b", "c d"], {"columns": {"user_id": "who"}}, "csv"),
        ([f"1 2 {T}", f"2 3 {T}"], {}, "csv"),
        (["user_id item_id", "1 2", "1 2 3"], {}, "csv"),
    ],
)
def test_words_are_sequences_or_columns(lines, spec, expected):
    assert words_only(lines)
    assert words_or_columns(lines, LogSpec(**spec), "log") == expected


def test_words_that_may_be_either_are_asked_for():
    with pytest.raises(InputError, match=r"Each line of log has 3 words.*--format csv or --format sequences"):
        words_or_columns(["1 2 3", "4 5 6"], LogSpec(), "log")
    assert not words_only(["1,2 3"])
    assert not words_only(["1::2 x"])


# --- whole tables -----------------------------------------------------------------------------------------------------


def jsonl(rows=ROWS):
    return "".join(json.dumps(dict(zip(WANTED, row))) + "\n" for row in rows)


def parquet(rows=ROWS, **columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(zip(WANTED, zip(*rows))) | columns), sink)
    return sink.getvalue()


def zstd(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


FORMS = {
    "log.csv": csv().encode(),
    "log.txt": csv(" ").encode(),
    "log.csv.gz": gzip.compress(csv().encode()),
    "log.csv.bz2": bz2.compress(csv().encode()),
    "log.csv.xz": lzma.compress(csv().encode()),
    "log.jsonl": jsonl().encode(),
    "log.jsonl.gz": gzip.compress(jsonl().encode()),
    "log.jsonl.bz2": bz2.compress(jsonl().encode()),
    "array.json": json.dumps([dict(zip(WANTED, row)) for row in ROWS]).encode(),
    "pretty.json": json.dumps([dict(zip(WANTED, row)) for row in ROWS], indent=2).encode(),
    "log.parquet": parquet(),
    "log[1].parquet": parquet(),
    "log[1].csv": csv().encode(),
    "log*.jsonl": jsonl().encode(),
    "a?b.parquet": parquet(),
    "it's a log.parquet": parquet(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_log_of_each_form_gives_the_same_table(name, tmp_path, sequences):
    path = log(tmp_path, FORMS[name], name)
    log(tmp_path, parquet([(9, 9, 9)]), "log1.parquet")  # which [1] would stand for as a pattern
    log(tmp_path, parquet([(9, 9, 9)]), "axb.parquet")
    manifest = build_table(path, tmp_path / "t")
    assert sequences(tmp_path / "t") == EXPECTED
    assert manifest.dropped == {}
    kinds = {"parquet": "Parquet", "jsonl": "JSON lines", "json": "a JSON array"}
    text = f"CSV with {'blanks' if name == 'log.txt' else 'commas'}, with a header"
    assert manifest.read_as == next((kind for part, kind in kinds.items() if f".{part}" in name), text)


def test_sequences_say_so(tmp_path, sequences):
    manifest = build_table(log(tmp_path, "a x y\nb z\n", "log.txt"), tmp_path / "t")
    assert manifest.read_as == "sequences, a user and items a line"
    assert sequences(tmp_path / "t") == {"a": [(0, "x", 0), (0, "y", 1)], "b": [(0, "z", 0)]}


def test_a_log_can_come_from_a_pipe(tmp_path, monkeypatch, sequences):
    class Piped:
        buffer = io.BytesIO(csv().encode())

    monkeypatch.setattr(sys, "stdin", Piped())
    manifest = build_table("-", tmp_path / "t")
    assert sequences(tmp_path / "t") == EXPECTED
    assert manifest.sources == []


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\xd0\xcf\x11\xe0rest", "old Excel workbook"),
        (b"SQLite format 3\0", "SQLite"),
        (b"ARROW1\0\0", "Arrow or Feather"),
        (b"ORC", "ORC"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"%PDF-1.4", "PDF"),
        (b"<html>", "HTML"),
        (b"\x80\x04\x95\0\0", "in no format that is known"),
    ],
)
def test_what_is_not_read_is_refused_by_name(start, words, tmp_path):
    with pytest.raises(InputError, match=f"{words}.*Give CSV, Parquet, JSON lines"):
        kind_of(log(tmp_path, start, "log"), "log")


@pytest.mark.parametrize(("member", "words"), [("xl/workbook.xml", "Excel"), ("content.xml", "OpenDocument")])
def test_a_workbook_is_refused_by_name(member, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "log.xlsx", "w") as archive:
        archive.writestr(member, "<x/>")
    with pytest.raises(InputError, match=rf"{words}.*Save the sheet that is the log as CSV"):
        build_table(tmp_path / "log.xlsx", tmp_path / "t")


def test_parts_are_read_by_number(tmp_path, sequences):
    for part in (10, 2, 1):
        log(tmp_path, csv(rows=[(1, part, T)]), f"parts/part-{part}.csv")
    build_table(tmp_path / "parts", tmp_path / "t")
    assert [item for _, item, _ in sequences(tmp_path / "t")[1]] == [1, 2, 10]
    assert sorted(["b10", "b9", "a", "10", "9", "b9a"], key=by_number) == ["9", "10", "a", "b9", "b9a", "b10"]


@pytest.mark.parametrize("empty", ["", "\n", "user_id,item_id,timestamp\n"])
@pytest.mark.parametrize("at", ["0.csv", "2.csv"])
def test_an_empty_part_is_passed_over(at, empty, tmp_path, sequences):
    log(tmp_path, csv(), "parts/1.csv")
    log(tmp_path, empty, f"parts/{at}")
    build_table(tmp_path / "parts", tmp_path / "t")
    assert sequences(tmp_path / "t") == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_folders_of_partitions_are_columns(kind, tmp_path, sequences):
    for day in ("2024-01-01", "2024-01-02"):
        user, item = [1], [int(day[-2:])]
        content = {
            "csv": f"user_id,item_id\n1,{item[0]}\n",
            "jsonl": json.dumps({"user_id": 1, "item_id": item[0]}) + "\n",
            "parquet": parquet([(1, item[0], 0)], user_id=user),
        }[kind]
        log(tmp_path, content, f"hive/dt={day}/part-0.{kind}")
    build_table(tmp_path / "hive", tmp_path / "t", spec=LogSpec(columns={"timestamp": "dt"}))
    assert sequences(tmp_path / "t") == {1: [(0, 1, 1_704_067_200), (0, 2, 1_704_153_600)]}
    assert partition_of(Path("a=b/c d=e/x=y%20z/1.csv")) == {"a": "b", "x": "y z"}


def test_a_broken_line_of_json_is_counted(tmp_path, sequences):
    lines = jsonl().splitlines()
    manifest = build_table(
        log(tmp_path, "\n".join([lines[0], '{"user_id": ', *lines[1:], "x"]), "log.jsonl"), tmp_path / "t"
    )
    assert sequences(tmp_path / "t") == EXPECTED
    assert manifest.dropped == {"line without any of these columns": 2}
    assert manifest.counts["rows read"] == 5


def test_a_column_that_begins_late_in_json_is_found(tmp_path):
    rows = [
        {"user_id": n % 5, "item_id": n % 7, "timestamp": T + n} | ({"liked": 1} if n > 21_000 else {})
        for n in range(21_010)
    ]
    path = log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "log.jsonl")
    build_table(path, tmp_path / "t", spec=LogSpec(actions={"like": "liked"}))
    liked = pq.read_table(tmp_path / "t" / "sequences")["actions"].combine_chunks().flatten()
    assert sum(liked.to_pylist()) == 9


@pytest.mark.parametrize(
    "extra",
    ["file_row_number", "file_index", "filename", "FILE_ROW_NUMBER", "User_ID", "file_size"],
)
def test_columns_with_names_of_the_engine_change_nothing(extra, tmp_path, sequences):
    rows = [(1, 2, T), (1, 3, T), (1, 4, T)]
    path = log(tmp_path, parquet(rows, **{extra: [9, 8, 7]}), "log.parquet")
    build_table(path, tmp_path / "t")
    assert [item for _, item, _ in sequences(tmp_path / "t")[1]] == [2, 3, 4]
    spec = LogSpec(values={"extra": extra})
    if extra == "User_ID":
        with pytest.raises(InputError, match=r"'User_ID' cannot be used beside 'user_id'"):
            build_table(path, tmp_path / "t2", spec=spec)
    else:
        build_table(path, tmp_path / "t2", spec=spec)
        assert [row[-1] for row in sequences(tmp_path / "t2")[1]] == [9, 8, 7]


def test_the_name_of_the_position_is_refused(tmp_path):
    path = log(tmp_path, parquet(**{"__position": [3, 2, 1]}), "log.parquet")
    with pytest.raises(InputError, match="'__position' cannot be used beside a name that Louder needs"):
        build_table(path, tmp_path / "t", spec=LogSpec(values={"p": "__position"}))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
def test_times_of_parquet_in_every_unit_and_zone(unit, zone, tmp_path, engine):
    from louder.etl.clean import microseconds
    from louder.etl.sources.parquet import open_parquet

    moments = pa.array([T * 10**6, (T + 1) * 10**6 + 500_000], pa.timestamp("us")).cast(pa.timestamp(unit), safe=False)
    pq.write_table(pa.table({"timestamp": moments.cast(pa.timestamp(unit, zone))}), tmp_path / "log.parquet")
    raw = open_parquet("zoned", [(tmp_path / "log.parquet", "log")]).load(engine)
    checked = microseconds(raw.timestamp, "iso", 4e9, engine.epoch_us)
    found = raw.select(micros=checked.value, good=checked.good).to_pyarrow().to_pydict()
    assert found["good"] == [True, True]
    assert [micros // 10**6 for micros in sorted(found["micros"])] == [T, T + 1]


def test_boms_are_no_part_of_a_name(tmp_path):
    path = log(tmp_path, codecs.BOM_UTF8 + csv().encode())
    assert columns_of(path) == (USERS, {})
    assert os.path.getsize(path) == len(csv()) + 3


def test_sequences_in_another_encoding_are_told(tmp_path):
    path = log(tmp_path, "é 1 2\nb 3\n".encode("latin-1"), "log.txt")
    with pytest.raises(InputError, match=r"log\.txt is not text in UTF-8"):
        build_table(path, tmp_path / "t", spec=LogSpec(format="sequences"))
