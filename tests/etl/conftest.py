"""Reads tables back as raw ids, and finds the real archives."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.etl.engines import RAW_POSITION
from louder.etl.engines.duckdb import open_duckdb
from louder.schema import Manifest


def read_sequences(table: Path) -> dict[Any, list[tuple]]:
    """Raw user -> (kind, raw id or value, time, then actions, values and request where the table has them)."""
    manifest = Manifest.read(table)
    names = ["item", *manifest.series]
    raws = [pq.read_table(table / "vocabulary" / f"{name}.parquet")["raw"].to_pylist() for name in names]
    users = pq.read_table(table / "vocabulary" / "user.parquet")["raw"].to_pylist()
    result: dict[Any, list[tuple]] = {}
    for part in sorted((table / "sequences").glob("*.parquet")):
        for row in pq.ParquetFile(part).read().to_pylist():
            user = users[row.pop("user")]
            assert user not in result, "a user is in one row only"
            lists = [row.pop("kind"), row.pop("id"), *row.values()]
            assert len({len(entries) for entries in lists}) == 1, "the lists of a row are parallel"
            result[user] = [(kind, raws[kind][id], *rest) for kind, id, *rest in zip(*lists)]
    return result


@pytest.fixture
def sequences() -> Callable[[Path], dict[Any, list[tuple]]]:
    return read_sequences


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    with open_duckdb(tmp_path_factory.mktemp("engine"), "a log", threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def in_engine(engine, tmp_path_factory) -> Callable[[pa.Table], ir.Table]:
    """Puts a table into the engine."""
    folder, numbers = tmp_path_factory.mktemp("tables"), count()

    def put(table: pa.Table) -> ir.Table:
        name = f"given_{next(numbers)}"
        pq.write_table(table, folder / f"{name}.parquet")
        return engine.read_parquet(name, [folder / f"{name}.parquet"], table.column_names).drop(RAW_POSITION)

    return put


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The path of a real archive; skips where there is none."""

    def find(name: str) -> Path:
        beside = Path(__file__).parents[2].parent / "shared" / "data"
        path = Path(os.environ.get("LOUDER_DATA", beside)) / name
        if not path.exists():
            pytest.skip(f"{name} is not there; set LOUDER_DATA to the folder that holds it")
        return path

    return find
