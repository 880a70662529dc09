"""The same log as a frame of pandas, of polars, of Arrow and as a file: one table."""

import filecmp
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import louder
from louder.cli import app
from louder.fingerprint import fingerprint_of
from louder.schema import Manifest


def events(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer": draw.integers(40, size=rows),
            "sku": [f"p{number}" for number in draw.integers(30, size=rows)],
            "bought": pd.to_datetime(draw.integers(1_600_000_000, 1_610_000_000, size=rows), unit="s"),
            "stars": draw.integers(1, 6, size=rows),
            "kind": pd.Categorical(draw.choice(["buy", "view"], size=rows)),
        }
    )


def products() -> pd.DataFrame:
    return pd.DataFrame(
        {"sku": [f"p{n}" for n in range(30)], "title": [f"Product {n}" for n in range(30)], "price": range(30)}
    )


MEANING = {
    "user": "customer",
    "item": "sku",
    "time": "bought",
    "actions": {"liked": "stars >= 4", "bought": "kind = buy"},
    "values": ["stars"],
}


def same_tables(a: Path, b: Path) -> bool:
    """Byte by byte, but for the manifests, which say where each came from."""
    files = sorted(file.relative_to(a) for file in a.rglob("*.parquet"))
    assert files == sorted(file.relative_to(b) for file in b.rglob("*.parquet")) and len(files) > 3
    fingerprints = [fingerprint_of(folder, Manifest.read(folder)) for folder in (a, b)]
    return fingerprints[0] == fingerprints[1] and all(filecmp.cmp(a / x, b / x, shallow=False) for x in files)


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    events().to_csv(folder / "log.csv", index=False)
    products().to_csv(folder / "products.csv", index=False)
    columns = [f"user_id={MEANING['user']}", f"item_id={MEANING['item']}", f"timestamp={MEANING['time']}"]
    words = ["etl", folder / "log.csv", "-o", folder / "table", "--items", folder / "products.csv", "--value"]
    words += ["stars=stars", "--action", "liked=stars >= 4", "--action", "bought=kind = buy"]
    words += [word for column in columns for word in ("--column", column)]
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "table"


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "chunked"])
def test_a_frame_of_any_kind_makes_the_table_that_the_command_makes(
    kind: str, by_command: Path, tmp_path: Path
) -> None:
    frames = []
    for frame in events(), products():
        arrow = pa.Table.from_pandas(frame, preserve_index=False)
        chunks = pa.concat_tables([arrow[: len(arrow) // 3], arrow[len(arrow) // 3 :]])
        frames.append({"pandas": frame, "polars": pl.from_pandas(frame), "arrow": arrow, "chunked": chunks}[kind])
    log = louder.log(frames[0], **MEANING, items=frames[1], folder=tmp_path / "table")
    assert same_tables(log.path, by_command)
    assert log.frame == {"chunked": "arrow"}.get(kind, kind)
    liked = int((events().stars >= 4).sum())
    assert (log.users, log.items, log.events, log.actions["liked"]) == (40, 30, 400, liked)


def test_a_path_makes_it_too_and_the_folder_of_a_table_is_opened(by_command: Path, tmp_path: Path) -> None:
    source = by_command.parent / "log.csv"
    log = louder.log(source, **MEANING, items=by_command.parent / "products.csv", folder=tmp_path / "table")
    assert same_tables(log.path, by_command)
    assert louder.log(by_command).events == 400
    for asked in {"user": "customer"}, {"k_core": 2}, {"folder": tmp_path / "other"}, {"time": False}:
        with pytest.raises(louder.InputError, match="is a sequence table already, which is opened as it is"):
            louder.log(by_command, **asked)


@pytest.mark.parametrize(
    ("unit", "zone"), [("s", None), ("ms", "UTC"), ("us", "Europe/Berlin"), ("ns", "UTC"), ("ns", None)]
)
def test_times_of_any_resolution_and_zone_are_the_same_moments(unit: str, zone: str | None, tmp_path: Path) -> None:
    moments = pd.to_datetime([1_600_000_000, 1_600_000_060], unit="s").astype(f"datetime64[{unit}]")
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [2, 3], "timestamp": moments})
    if zone:
        frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert(zone)
    for number, each in enumerate((frame, pl.from_pandas(frame))):
        manifest = louder.log(each, folder=tmp_path / str(number)).manifest
        assert (manifest.first_time, manifest.last_time) == (1_600_000_000, 1_600_000_060)


def test_ids_stay_what_they_are(tmp_path: Path) -> None:
    """Texts that look like numbers are texts in a frame, and integers that pandas made fractions beside a NaN are whole."""
    frame = pd.DataFrame({"user_id": ["10", "1", "1"], "item_id": [7.0, 8.0, np.nan], "timestamp": [1.6e9] * 3})
    with pytest.warns(UserWarning, match=r"^1 of the 3 rows were left out \(item_id missing: 1\)\.$"):
        log = louder.log(frame, folder=tmp_path / "table")
    from louder.data.table import open_table

    table = open_table(log.path)
    assert table.user_ids.raw.to_pylist() == ["1", "10"] and table.item_ids.raw.to_pylist() == [7, 8]
    assert log.dropped == {"item_id missing": 1}


def test_what_filters_drop_is_counted_and_not_warned_of(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1]})
    log = louder.log(frame, time=False, min_user_events=2, folder=tmp_path / "table")
    assert log.dropped == {"user with fewer than 2 events": 1} and log.users == 1 and not log.manifest.has_times
    longer = pd.concat([frame, pd.DataFrame({"user_id": [None], "item_id": [1]})])
    with pytest.warns(UserWarning, match=r"^1 of the 4 rows were left out \(user_id missing: 1\)\.$"):
        louder.log(longer, time=False, min_user_events=2, folder=tmp_path / "other")


def test_a_temporary_table_goes_with_its_handle() -> None:
    log = louder.log(events(), **MEANING)
    path = log.path
    assert log.temporary and (path / "manifest.json").is_file()
    del log
    assert not path.parent.exists()


def test_a_handle_shows_what_the_table_holds_and_escapes_it(tmp_path: Path) -> None:
    log = louder.log(events(), **MEANING, name="<b>shop", folder=tmp_path / "table")
    page = log._repr_html_()
    assert "<td" in page and ">400</td>" in page and "action liked" in page
    assert "&lt;b&gt;shop" in page and "<b>shop" not in page
    assert "events" in repr(log) and "400" in repr(log)


FRAME = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [1_600_000_000, 1_600_000_001], "tags": [["a"], ["b"]]})
WRONG = {
    "The frame has no column 'who'; its columns are u, i, t, tags. Name the right one: user='NAME'.": {"user": "who"},
    "The frame has no column 'timestamp'; its columns are u, i, t, tags. Name the right one: time='NAME', or "
    "time=False if there is none.": {"user": "u", "item": "i"},
    "The column 'tags' holds list<element: string>, but it must hold ids: integers or texts.": {"item": "tags"},
    "The frame has no column 'stars'; its columns are u, i, t, tags. Name the right one: actions={'like': 'NAME'}.": {
        "actions": {"like": "stars >= 4"}
    },
    "The action 'like' has the rule 'stars => 4', which is not understood. Write a flag column, or COLUMN OPERATOR VALUE "
    "with one of >= <= == != > <: actions={'like': 'rating >= 4'}.": {"actions": {"like": "stars => 4"}},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_column_is_one_sentence_in_words_of_python(sentence: str) -> None:
    with pytest.raises(louder.InputError) as raised:
        louder.log(
            FRAME, **({"user": "u", "item": "i", "time": "t"} if "timestamp" not in sentence else {}) | WRONG[sentence]
        )
    assert str(raised.value).replace("list<item:", "list<element:") == sentence


def test_mistakes_of_frames_are_named() -> None:
    meaning = {"user": "u", "item": "i", "time": "t"}
    for source, sentence in {
        "index": "It is the index: df.reset_index().",
        "mixed": "The column 'u' does not hold values of one type",
        "twice": "The frame has 2 columns 'u'. Rename all of them but one.",
        "lazy": "Collect it first: frame.collect().",
        "milliseconds": "they look like milliseconds. Pass time_unit='ms'.",
        "empty": "The frame is empty",
        "dictionary": "but this is dict.",
        "other items": "None of the 2 ids of the frame of items, such as 7, is in the log, which has such as",
        "nameless items": "The frame of items has no column 'i'; its columns are film. Rename the one that holds the ids to 'i'.",
    }.items():
        frame = {
            "index": FRAME.set_index("u"),
            "mixed": FRAME.assign(u=[1, "a"]),
            "twice": pd.concat([FRAME, FRAME[["u"]]], axis=1),
            "lazy": pl.from_pandas(FRAME).lazy(),
            "milliseconds": FRAME.assign(t=FRAME.t * 1000),
            "empty": FRAME[:0],
            "dictionary": {"u": [1]},
        }.get(source, FRAME)
        items = {"other items": {"i": [7, 8]}, "nameless items": {"film": [1]}}.get(source)
        with pytest.raises(louder.InputError) as raised:
            louder.log(frame, **meaning, items=items and pd.DataFrame(items))
        assert sentence in str(raised.value), source
