"""RecTools beside Louder, on a log of a few users: both see the same events."""

import csv
from pathlib import Path

import pytest

from benchmarks import beside_rectools as bench
from louder.etl import build_table

LENGTHS = 3, 5, 12, 230  # events of the users; 2 of each are no label: the one that is held out, and the first


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rectools")
    lines = [f"{user},{n % 40},{1_700_000_000 + n}" for user, length in enumerate(LENGTHS) for n in range(length)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    build_table(folder / "log.csv", folder / "table")
    return folder / "table"


def test_an_epoch_has_a_label_for_each_event_that_follows_another_of_at_most_200(table: Path, tmp_path: Path) -> None:
    told = bench.Louder(str(table), tmp_path).epoch("hstu")
    assert told["labels"] == sum(min(length - 2, 200) for length in LENGTHS)
    assert told["seconds"] > 0


def test_rectools_has_as_many(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("rectools")
    bench.events_of(table, tmp_path / "events.csv")
    assert bench.RecTools(str(tmp_path / "events.csv")).epoch("hstu")["labels"] == 1 + 3 + 10 + 200


def test_events_are_written_user_by_user_in_the_order_of_the_table(table: Path, tmp_path: Path) -> None:
    bench.events_of(table, tmp_path / "events.csv")
    rows = [[int(cell) for cell in row] for row in csv.reader((tmp_path / "events.csv").read_text().splitlines())]
    assert [sum(row[0] == user for row in rows) for user in range(4)] == list(LENGTHS)
    assert rows == sorted(rows, key=lambda row: (row[0], row[2]))


def test_rows_have_the_median_of_both_and_what_both_did() -> None:
    found = {
        name: [{"seconds": seconds, "labels": 7, "version": "1"} for seconds in times]
        for name, times in {"louder": (1.0, 3.0, 2.0), "rectools": (9.0, 8.0, 10.0)}.items()
    }
    mine, theirs = bench.rows_of("epoch", "hstu_large", found)
    assert (mine["median_s"], mine["min_s"], mine["max_s"], mine["runs"]) == (2.0, 1.0, 3.0, 3)
    assert theirs["median_s"] == 9.0
    assert {row["implementation"] for row in (mine, theirs)} == {"louder", "rectools"}
    for row in mine, theirs:
        assert (row["case"], row["layers"], row["heads"], row["labels"]) == ("an epoch, HSTU-large", 8, 2, 7)


@pytest.mark.parametrize("model", bench.MODELS)
def test_the_sizes_are_those_of_the_recipes(model: str, table: Path, tmp_path: Path) -> None:
    config = bench.Louder(str(table), tmp_path).config(model)
    layers, heads = bench.LAYERS[model]
    assert (config.model.layers, config.model.heads, config.model.width) == (layers, heads, bench.SIZES["width"])
    assert config.data.max_len == bench.SIZES["max_len"]
    assert config.data.users_per_batch == bench.SIZES["users_per_batch"]
    assert config.loss.num_negatives == bench.SIZES["negatives"]
    assert config.model.dropout == bench.SIZES["dropout"]
    assert config.training.seed == bench.SEED
