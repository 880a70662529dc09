"""One function per raw format: named files -> a raw table with the meaning of its columns.

A format is recognised from what the files hold; `format` in the LogSpec overrides it.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.engine import first_line
from louder.etl.files import Input, head_lines, some
from louder.etl.spec import LogSpec
from louder.etl.tables import RAW_POSITION, RawTable, kind_of, open_table
from louder.schema import ITEM, RATING, TIME, USER, require_columns


@dataclass
class Source:
    """An event log that is ready to be cleaned.

    shown      how messages call it
    log        the raw table
    spec       what its columns mean
    items      attributes of items, or None; its column "raw" holds their ids
    users      the same of users
    repeats    whether an event can be there twice; False: equal rows are one event that was written twice
    """

    name: str
    shown: str
    log: RawTable
    spec: LogSpec
    items: pa.Table | None = None
    users: pa.Table | None = None
    repeats: bool = True


def open_source(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """Recognise and open the log. Raises InputError if no format fits."""
    kind = spec.format if spec.format != "auto" else recognise(inputs)
    if kind not in FORMATS:
        raise InputError(
            f"The format {kind!r} is not known; known are {', '.join(FORMATS)}. Give one of them: --format csv."
        )
    source = FORMATS[kind](con, inputs, replace(spec, format=kind), work)
    return source


def recognise(inputs: list[Input]) -> str:
    """The format of a source, from its content."""
    first = inputs[0]
    if kuairand_logs(first):
        return "kuairand"
    if (len(inputs) == 1 and not first.member) or Path(first.member).name in ("ratings.dat", "u.data"):
        if (
            first.find("ratings.dat")
            or first.find("u.data")
            or (first.find("ratings.csv") and first.find("movies.csv"))
        ):
            return "movielens"
        if all(first.find(f"{part}.csv") for part in ("train", "dev", "test")):
            return "leave-one-out"
    name = log_files(first)[0]
    kind = kind_of(first.file(name), first.shown(name))
    if kind != "csv":
        return kind
    if first.member == "ratings.csv" and first.find("movies.csv"):
        header = head_lines(first.file(name))[0]
        if header.startswith("userId,movieId"):
            return "movielens"
    lines = head_lines(first.file(name))
    if lines and all(re.fullmatch(r"[^,\t]+,[^,\t]+,[0-5](\.\d+)?,\d{9,10}", line) for line in lines[:20]):
        return "amazon-ratings"
    if lines and all(re.fullmatch(r"\S+( \S+)+ ?", line) and not re.search(r"[,;\t|]", line) for line in lines[:20]):
        return "sequences"
    return "csv"


def log_files(source: Input) -> list[str]:
    """The files of a plain source, in order. Raises InputError if they are of several kinds."""
    if source.member:
        return [source.member]
    if source.is_archive and len(source.names) > 1:
        raise InputError(
            f"{source.path} holds several files ({some(source.names)}) and no archive that is known. "
            f"Say which of them is the log: '{source.path}::{source.names[0]}'."
        )
    kinds = {
        "".join(Path(name).suffixes[-2:] if name.endswith(".gz") else Path(name).suffixes[-1:]) for name in source.names
    }
    if len(kinds) > 1:
        raise InputError(
            f"The folder {source.path} holds files of several kinds ({some(source.names)}). "
            "Give the files of the log by name, or a folder that holds nothing else."
        )
    return source.names


# --- any table -------------------------------------------------------------------------------------------------------


def plain(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """CSV, Parquet or JSON lines, with columns that the spec names."""
    files = [(entry.file(name), entry.shown(name)) for entry in inputs for name in log_files(entry)]
    wanted = [*spec.columns.values(), USER, ITEM, TIME]
    table = open_table(con, "raw", files, spec.format, work, wanted)
    first = inputs[0]
    name = re.sub(r"(\.(csv|tsv|txt|parquet|jsonl|ndjson|json|gz|zip))+$", "", Path(first.member or first.path).name)
    found = table.columns
    # columns under the words of the schema are used without being asked for
    if RATING in spec.columns:
        spec = replace(spec, values={RATING: spec.columns[RATING], **spec.values})
    elif RATING in found and RATING not in spec.values and RATING not in spec.values.values():
        spec = replace(spec, values={RATING: RATING, **spec.values})
    shown = files[0][1] if len(files) == 1 else f"{files[0][1]} and {len(files) - 1} more"
    return Source(name or "log", shown, table, spec)


# --- MovieLens -------------------------------------------------------------------------------------------------------

GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def movielens(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """MovieLens as distributed: 100K (u.data), 1M and 10M (ratings.dat), 20M, 25M and 32M (ratings.csv).

    A rating of 4 or more is the action "like", unless the spec names actions.
    """
    source = inputs[0]
    items = users = None
    names = [USER, ITEM, RATING, TIME]
    if name := source.find("ratings.dat"):
        table = open_table(
            con, "raw", [(source.file(name), source.shown(name))], "csv", work, names=names, delimiter="::"
        )
        if movies := source.find("movies.dat"):
            fields = split_lines(source.file(movies), source.shown(movies), "::", 3)
            items = films(fields[0], fields[1], genre_lists(fields[2]), source.shown(movies))
        if people := source.find("users.dat"):
            fields = split_lines(source.file(people), source.shown(people), "::", 5)
            users = people_table(fields, ["raw", "gender", "age", "occupation", "zip"], source.shown(people))
    elif name := source.find("u.data"):
        table = open_table(
            con, "raw", [(source.file(name), source.shown(name))], "csv", work, names=names, delimiter="\t"
        )
        if movies := source.find("u.item"):
            fields = split_lines(source.file(movies), source.shown(movies), "|", 24)
            flags = zip(*(field.to_pylist() for field in fields[5:]))
            genres = [[genre for genre, flag in zip(GENRES_100K, row) if flag == "1"] for row in flags]
            items = films(fields[0], fields[1], pa.array(genres, pa.list_(pa.string())), source.shown(movies))
        if people := source.find("u.user"):
            fields = split_lines(source.file(people), source.shown(people), "|", 5)
            users = people_table(fields, ["raw", "age", "gender", "occupation", "zip"], source.shown(people))
    elif name := source.find("ratings.csv"):
        table = open_table(con, "raw", [(source.file(name), source.shown(name))], "csv", work, ["userId"])
        spec = replace(spec, columns={USER: "userId", ITEM: "movieId", **spec.columns})
        if movies := source.find("movies.csv"):
            films_csv = open_table(
                con, "movies", [(source.file(movies), source.shown(movies))], "csv", work, ["movieId"]
            )
            require_columns(source.shown(movies), films_csv.columns, ["movieId", "title", "genres"])
            rows = loaded(con, films_csv)
            items = films(
                rows["movieId"].combine_chunks(),
                rows["title"].combine_chunks(),
                genre_lists(rows["genres"].combine_chunks()),
                source.shown(movies),
            )
    else:
        raise InputError(
            f"{source.path} is no MovieLens archive: it has no ratings.dat, u.data or ratings.csv. Try --format csv."
        )
    spec = replace(
        spec,
        actions=spec.actions or {"like": f"{RATING} >= 4"},
        values={RATING: RATING, **spec.values},
        time_unit="s" if spec.time_unit == "auto" else spec.time_unit,
    )
    return Source(source.path.stem, source.shown(name), table, spec, items, users)


def split_lines(path: Path, shown: str, delimiter: str, count: int) -> list[pa.StringArray]:
    """The fields of a latin-1 file without a header, by column. Raises InputError if a line has fewer than `count`."""
    lines = pa.array(text_lines(path, "latin-1"), pa.string())
    parts = pc.split_pattern(lines, delimiter)
    lengths = pc.list_value_length(parts)
    if pc.min(lengths).as_py() < count:
        line = pc.index(pc.less(lengths, count), True).as_py() + 1
        raise InputError(
            f"{shown} has {lengths[line - 1]} fields in line {line}, but {count} were needed. Get the archive again."
        )
    return [pc.list_element(parts, index) for index in range(count)]


def genre_lists(genres: pa.StringArray) -> pa.ListArray:
    """`Comedy|Drama` -> a list; none for an empty text and for "(no genres listed)"."""
    none = pc.or_(pc.equal(genres, ""), pc.equal(genres, "(no genres listed)"))
    named = pc.if_else(none, None, genres)
    return pc.split_pattern(named, "|")


def films(ids: pa.StringArray, titles: pa.StringArray, genres: pa.ListArray, shown: str) -> pa.Table:
    """Id, title and list of genres of films."""
    return pa.Table.from_arrays([integers(ids, shown), titles, genres], ["raw", "title", "genres"])


def people_table(fields: list[pa.StringArray], names: list[str], shown: str) -> pa.Table:
    numbers = ("raw", "age", "occupation")
    columns = [
        integers(column, shown) if name == "raw" else typed(column) if name in numbers else column
        for name, column in zip(names, fields)
    ]
    return pa.Table.from_arrays(columns, names)


def integers(ids: pa.StringArray, shown: str) -> pa.Int64Array:
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{shown} has an id that is no number ({first_line(str(error))[:-1]}). Get the archive again."
        ) from error


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding) as file:
        for line in file:
            if line.strip():
                yield line.rstrip("\r\n")


# --- Amazon, and sets prepared from it -------------------------------------------------------------------------------


def amazon_ratings(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """Ratings only, 2014 release: no header; user, item, rating, time."""
    files = [(entry.file(name), entry.shown(name)) for entry in inputs for name in log_files(entry)]
    table = open_table(con, "raw", files, "csv", work, names=[USER, ITEM, RATING, TIME], delimiter=",")
    ids = "string" if spec.ids == "auto" else spec.ids  # 0000000078 is a text, though it looks like a number
    spec = replace(spec, values={RATING: RATING, **spec.values}, ids=ids)
    return Source(Path(inputs[0].member or inputs[0].path).stem, files[0][1], table, spec)


def leave_one_out(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """A split log put together again: train.csv, dev.csv, test.csv; item_meta.csv if there."""
    source = inputs[0]
    names = [source.find(f"{part}.csv") for part in ("train", "dev", "test")]
    if None in names:
        raise InputError(
            f"{source.path} has no train.csv, dev.csv and test.csv. Give --format csv and the file of the log."
        )
    files = [(source.file(name), source.shown(name)) for name in names if name]
    table = open_table(con, "raw", files, "csv", work, ["user_id", "item_id"])
    spec = replace(spec, columns={TIME: "time" if "time" in table.columns else TIME, **spec.columns})
    items = None
    if name := source.find("item_meta.csv"):
        meta = open_table(con, "item_meta", [(source.file(name), source.shown(name))], "csv", work, ["item_id"])
        items = typed_attributes(loaded(con, meta), "item_id")
    return Source(source.path.stem, str(source.path), table, spec, items)


def sequences(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """Ordered sequences without times: `user item item ...`, one user a line, oldest first."""
    source = inputs[0]
    name = log_files(source)[0]
    path = work / "sequences.parquet"
    write_sequences(source.file(name), path)
    stem = Path(name).stem
    items = None
    if beside := source.find(f"{stem}_item2attributes.json"):
        text = source.file(beside).read_text(encoding="utf-8")
        try:
            attributes = json.loads(text)
            items = pa.table(
                {"raw": list(attributes), "attributes": pa.array(list(attributes.values()), pa.list_(pa.int64()))}
            )
        except (ValueError, AttributeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"{source.shown(beside)} is not JSON of item -> list of attribute ids ({error})."
            ) from error
    table = open_table(con, "raw", [(path, source.shown(name))], "parquet", work)
    return Source(stem, source.shown(name), table, replace(spec, has_times=False), items)


def write_sequences(path: Path, out: Path, lines_at_once: int = 50_000) -> None:
    """Lines `user item item ...` -> Parquet with a row per event, in order."""
    schema = pa.schema({USER: pa.string(), ITEM: pa.string()})
    with pq.ParquetWriter(out, schema) as writer:
        users: list[str] = []
        items: list[str] = []

        def flush() -> None:
            writer.write_table(pa.table({USER: users, ITEM: items}, schema=schema))
            users.clear()
            items.clear()

        for count, line in enumerate(text_lines(path, "utf-8-sig"), 1):
            user, *rest = line.split()
            users.extend([user] * len(rest))
            items.extend(rest)
            if count % lines_at_once == 0:
                flush()
        flush()


# --- KuaiRand ---------------------------------------------------------------------------------------------------------

KUAIRAND_LOG = re.compile(r"log_(?P<policy>standard|random)_.+_(?P<edition>pure|1k|27k)(_part\d+)?\.csv")
KUAIRAND_ACTIONS = {name: f"is_{name}" for name in ("click", "like", "follow", "comment", "forward", "hate")} | {
    "long_view": "long_view",
    "profile_enter": "is_profile_enter",
}


def kuairand(con: Any, inputs: list[Input], spec: LogSpec, work: Path) -> Source:
    """KuaiRand-Pure, 1K or 27K: videos shown, and what the user did with each; the standard logs one after the other.

    The log of randomly shown videos is read if it is named, and left out of an archive or a folder: it is of another
    policy. The value is the time watched as it is in the log, in milliseconds. Its clock is in milliseconds too, so equal
    rows are one exposure that was written twice: 2.6 % of the pure log, from which a counter could read off the label.
    """
    logs = [(entry, name) for entry in inputs for name in kuairand_logs(entry)]
    if not logs:
        raise InputError(
            f"{inputs[0].path} has no log_standard_*.csv of KuaiRand; it holds {some(inputs[0].names)}. "
            "Give the archive, or the folder that it unpacks to."
        )
    files = [(entry.file(name), entry.shown(name)) for entry, name in logs]
    table = open_table(con, "raw", files, "csv", work, [USER, "video_id"])
    spec = replace(
        spec,
        columns={ITEM: "video_id", TIME: "time_ms", **spec.columns},
        time_unit="ms" if spec.time_unit == "auto" else spec.time_unit,
        actions=spec.actions or KUAIRAND_ACTIONS,
        values=spec.values or {"play_time_ms": "play_time_ms"},
    )
    match = KUAIRAND_LOG.fullmatch(Path(logs[0][1]).name)
    assert match is not None
    shown = files[0][1] if len(files) == 1 else f"{files[0][1]} and {len(files) - 1} more"
    items = kuairand_features(con, inputs, "video_features_basic", "video_id", work)
    users = kuairand_features(con, inputs, "user_features", "user_id", work)
    return Source(f"kuairand-{match['edition']}", shown, table, spec, items, users, repeats=False)


def kuairand_logs(source: Input) -> list[str]:
    """The logs of one source, in the order of their dates; none where it is no KuaiRand."""
    if source.member:
        return [source.member] if KUAIRAND_LOG.fullmatch(Path(source.member).name) else []
    matches = {name: KUAIRAND_LOG.fullmatch(Path(name).name) for name in source.names}
    return sorted(name for name, match in matches.items() if match and match["policy"] == "standard")


def kuairand_features(con: Any, inputs: list[Input], kind: str, key: str, work: Path) -> pa.Table | None:
    """The file `KIND_*.csv` beside the log. Numbers that are names (an author, a masked category) become texts, tags a
    list of texts."""
    pattern = rf"(.*/)?{kind}_(pure|1k|27k)\.csv"
    found = [(source, name) for source in inputs for name in source.names if re.fullmatch(pattern, name)]
    if not found:
        return None
    source, name = found[0]
    features = loaded(con, open_table(con, kind, [(source.file(name), source.shown(name))], "csv", work, [key]))
    table = typed_attributes(features, key)
    for index, column in enumerate(table.column_names):
        if re.fullmatch(r"\w+_id|onehot_feat\d+", column):
            table = table.set_column(index, column, named(table.column(column)))
        elif column == "tag":
            texts = pc.if_else(pc.equal(features.column(column), ""), None, features.column(column))
            table = table.set_column(index, column, pc.split_pattern(texts, ","))
    return table


def named(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers as texts, 1.0 as "1"; what is none stays."""
    try:
        return column.cast(pa.int64()).cast(pa.string())
    except pa.ArrowInvalid:
        return column


# --- attributes ------------------------------------------------------------------------------------------------------


def loaded(con: Any, table: RawTable) -> pa.Table:
    """A small table, whole and in order."""
    return table.load(con).order_by(RAW_POSITION).drop(RAW_POSITION).to_pyarrow()


def typed_attributes(table: pa.Table, key: str) -> pa.Table:
    """Text columns -> integers, floats, or lists of numbers or texts (as in JSON) where every value is one; the key is
    called "raw"."""
    others = [name for name in table.column_names if name != key]
    return pa.Table.from_arrays([table.column(key), *(typed(table.column(name)) for name in others)], ["raw", *others])


def typed(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return column
    column = pc.if_else(pc.equal(column, ""), None, column)
    for kind in pa.int64(), pa.float64():
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    if pc.all(pc.starts_with(column, "[")).as_py():
        try:
            lists = pa.array([value and json.loads(value) for value in column.to_pylist()])
        except (ValueError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):
            return column
        kind = lists.type.value_type
        if pa.types.is_null(kind):  # every list is empty
            return lists.cast(pa.list_(pa.int64()))
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
            return lists
    return column


FORMATS: dict[str, Callable[[Any, list[Input], LogSpec, Path], Source]] = {
    "movielens": movielens,
    "amazon-ratings": amazon_ratings,
    "kuairand": kuairand,
    "leave-one-out": leave_one_out,
    "sequences": sequences,
    "csv": plain,
    "parquet": plain,
    "jsonl": plain,
}
