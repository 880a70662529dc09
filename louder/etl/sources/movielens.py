"""MovieLens as distributed: 100K (u.data), 1M and 10M (ratings.dat), 20M, 25M and 32M (ratings.csv)."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from louder.errors import InputError
from louder.etl.files import Input, first_line, text_lines
from louder.etl.sources.attributes import typed
from louder.etl.sources.csv import open_csv
from louder.etl.sources.source import LogSource, opened
from louder.etl.spec import LogSpec, TextForm
from louder.schema import ITEM, RATING, TIME, USER, require_columns

NAMES = [USER, ITEM, RATING, TIME]
GENRES_100K = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
)


def open_movielens(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    """A rating of 4 or more is the action "like", unless the spec names actions."""
    source = inputs[0]
    users = None
    if name := source.find("ratings.dat"):
        table = open_csv("raw", [opened(source, name)], work, names=NAMES, text=TextForm("::"))
        items, users = films_1m(source), people(source, "users.dat", "::", ["gender", "age", "occupation", "zip"])
    elif name := source.find("u.data"):
        table = open_csv("raw", [opened(source, name)], work, names=NAMES, text=TextForm("\t"))
        items, users = films_100k(source), people(source, "u.user", "|", ["age", "gender", "occupation", "zip"])
    elif name := source.find("ratings.csv"):
        table = open_csv("raw", [opened(source, name)], work, ["userId"])
        items = films_20m(source, work)
        spec = replace(spec, columns={USER: "userId", ITEM: "movieId", **spec.columns})
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
    return LogSource(source.path.stem, source.shown(name), table, spec, items, users)


def films_1m(source: Input) -> pa.Table | None:
    if not (name := source.find("movies.dat")):
        return None
    ids, titles, genres = split_lines(*opened(source, name), "::", 3)
    return films(ids, titles, genre_lists(genres), source.shown(name))


def films_100k(source: Input) -> pa.Table | None:
    if not (name := source.find("u.item")):
        return None
    fields = split_lines(*opened(source, name), "|", 24)
    flags = zip(*(field.to_pylist() for field in fields[5:]))
    genres = [[genre for genre, flag in zip(GENRES_100K.split("|"), row) if flag == "1"] for row in flags]
    return films(fields[0], fields[1], pa.array(genres, pa.list_(pa.string())), source.shown(name))


def films_20m(source: Input, work: Path) -> pa.Table | None:
    if not (name := source.find("movies.csv")):
        return None
    table = open_csv("movies", [opened(source, name)], work, ["movieId"])
    require_columns(source.shown(name), table.columns, ["movieId", "title", "genres"])
    rows = table.fetch().table()
    ids, titles, genres = (rows[column].combine_chunks() for column in ("movieId", "title", "genres"))
    return films(ids, titles, genre_lists(genres), source.shown(name))


def films(ids: pa.StringArray, titles: pa.StringArray, genres: pa.ListArray, shown: str) -> pa.Table:
    """Id, title and list of genres of films."""
    return pa.Table.from_arrays([integers(ids, shown), titles, genres], ["raw", "title", "genres"])


def genre_lists(genres: pa.StringArray) -> pa.ListArray:
    """`Comedy|Drama` -> a list; none for an empty text and for "(no genres listed)"."""
    none = pc.or_(pc.equal(genres, ""), pc.equal(genres, "(no genres listed)"))
    named = pc.if_else(none, None, genres)
    return pc.split_pattern(named, "|")


def people(source: Input, base: str, delimiter: str, names: list[str]) -> pa.Table | None:
    """A file of users: the id, then these columns."""
    if not (name := source.find(base)):
        return None
    ids, *fields = split_lines(*opened(source, name), delimiter, 1 + len(names))
    columns = [typed(field) if what in ("age", "occupation") else field for what, field in zip(names, fields)]
    return pa.Table.from_arrays([integers(ids, source.shown(name)), *columns], ["raw", *names])


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


def integers(ids: pa.StringArray, shown: str) -> pa.Int64Array:
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{shown} has an id that is no number ({first_line(str(error))[:-1]}). Get the archive again."
        ) from error
