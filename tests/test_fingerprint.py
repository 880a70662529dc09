"""Tables and runs that do not belong together are told apart, by the name of what differs."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import untrained_run
from tables import (
    Token,
    random_users,
    ranking_table,
    tiny_config,
    tiny_ranking_config,
    write_ranking_table,
    write_table,
)

from louder.errors import InputError
from louder.etl import build_table
from louder.fingerprint import changed, fingerprint_of, fingerprint_of_training, grown_from, hash_of, require_same
from louder.schema import Manifest
from louder.training.config import TrainingConfig
from louder.training.loop import train

ITEMS, USERS = [1000 + item for item in range(6)], [100, 101, 102]
EVENTS = [[Token(0, 1, 1), Token(2, 0, 0, kind=1)], [Token(5, 2, 3), Token(1, 3)], [Token(3, 4)]]


def make(folder, *, series=None, **changes):
    """A table of three users, six items, two actions, a value and two series, or with changes."""
    shutil.rmtree(folder, ignore_errors=True)
    series = {"city": ["a", "b", "c"], "mood": ["x", "y"]} if series is None else series
    given = {
        "actions": ["click", "like"],
        "values": {"watch": [[1.0, 2.0], [3.0, 4.0], [5.0]]},
        "raw_items": ITEMS,
        "raw_users": USERS,
    } | changes
    sizes = {name: len(values) for name, values in series.items()}
    write_table(folder, EVENTS, items=len(given["raw_items"]), series=sizes, **given)
    for name, values in series.items():
        pq.write_table(pa.table({"raw": values}), folder / "vocabulary" / f"{name}.parquet")
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"raw_items": [*ITEMS, 7]}, {"items": True}),
        ({"raw_items": [*ITEMS, 7, 8, 9]}, {"items": True}),
        ({"raw_items": [7, *ITEMS]}, {"items": False}),
        ({"raw_items": ITEMS[::-1]}, {"items": False}),
        ({"raw_items": [item + 1 for item in ITEMS]}, {"items": False}),
        ({"raw_items": [*ITEMS[:-1], 7]}, {"items": False}),
        ({"raw_items": [str(item) for item in ITEMS]}, {"items": False}),
        ({"raw_users": [100, 101, 103]}, {"users": False}),
        ({"actions": ["like", "click"]}, {"actions": False}),
        ({"actions": ["click"]}, {"actions": False}),
        ({"actions": []}, {"actions": False}),
        ({"actions": ["click", "share"]}, {"actions": False}),
        ({"actions": ["click", "like", "share"]}, {"actions": True}),
        ({"values": {}}, {"values": False}),
        ({"values": {"seconds": [[1.0, 2.0], [3.0, 4.0], [5.0]]}}, {"values": False}),
        ({"series": {"mood": ["x", "y"], "city": ["a", "b", "c"]}}, {"series": False}),
        ({"series": {"city": ["a", "b", "c"]}}, {"series": False}),
        ({"series": {"city": ["a", "b", "c"], "mood": ["x", "z"]}}, {"series": False}),
        ({"series": {"city": ["a", "b", "c", "d"], "mood": ["x", "y"]}}, {"series": True}),
        ({"series": {"city": ["a", "b", "c"], "mood": ["x", "y"], "age": ["1"]}}, {"series": True}),
        ({"raw_items": [*ITEMS, 7], "raw_users": [101, 100, 102]}, {"items": True, "users": False}),
    ],
)
def test_each_part_that_changes_is_named_and_growth_told_apart(change, expected, tmp_path):
    before = fingerprint_of(make(tmp_path / "t"))
    table = make(tmp_path / "t", **change)
    assert changed(before, table) == expected
    assert grown_from(before, table) == all(expected.values())
    kept = [part for part in ("items", "users", "actions", "values", "series") if part not in expected]
    require_same(before, table, "the run", kept)
    for part, grown in expected.items():
        words = "has grown since the run was made" if grown else "is not the table the run was made with"
        with pytest.raises(InputError, match=rf"t {words}.*{part}.*louder train RECIPE --table"):
            require_same(before, table, "the run", [part])


def test_hashes_tell_ids_apart_wherever_they_lie_in_memory():
    texts = ["b", "", "ab", "ü"]
    same = [
        pa.array(texts),
        pa.array(["x", *texts]).slice(1),
        pa.array([*texts, "x"]).slice(0, 4),
        pa.array(texts, pa.large_string()),
    ]
    assert len({hash_of(raw) for raw in same}) == 1
    numbers = [pa.array([3, -1]), pa.array([9, 3, -1, 4]).slice(1, 2), pa.array([3, -1], pa.int16())]
    assert len({hash_of(raw) for raw in numbers}) == 1
    others = [["b", "a", "b", "ü"], ["", "b", "ab", "ü"], ["b", "", "a", "bü"], ["ü", "", "ab", "b"], [], [""]]
    arrays = [same[0], numbers[0], *map(lambda x: pa.array(x, pa.string()), others), pa.array([], pa.int64())]
    arrays += [pa.array(["3", "-1"]), pa.array([-1, 3])]
    assert len({hash_of(raw) for raw in arrays}) == len(arrays)
    assert hash_of(same[0]).startswith("4:")


def test_a_table_carries_its_fingerprint_and_an_older_one_is_read(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,city\nb,x,1700000000,k\na,y,1700000001,l\n")
    from louder.etl import LogSpec

    build_table(tmp_path / "log.csv", tmp_path / "t", spec=LogSpec(series={"city": "city"}))
    carried = fingerprint_of(tmp_path / "t")
    assert list(carried.vocabularies) == ["item", "user", "city"]
    assert carried.vocabularies["user"] == hash_of(pa.array(["a", "b"]))
    file = tmp_path / "t" / "manifest.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "vocabularies"}))
    assert fingerprint_of(tmp_path / "t") == carried
    assert Manifest.read(tmp_path / "t").vocabularies == {}


def test_a_checkpoint_of_an_older_louder_has_its_fingerprint_too(tmp_path):
    table = make(tmp_path / "t")
    state = {"actions": ["click", "like"], "values": ["watch"], "vocabulary": {"series": [3, 2]}}
    assert fingerprint_of_training(table, state).entries("series") == fingerprint_of(table).entries("series")
    assert fingerprint_of_training(table, state).vocabularies == fingerprint_of(table).vocabularies


@pytest.fixture
def retrieval(tmp_path):
    users = random_users(20, items=15, actions=2)
    table = write_table(tmp_path / "t", users, items=15, actions=["like", "share"])
    run = untrained_run(tiny_config(table), tmp_path / "run")

    def again(folder=table, **changes):
        shutil.rmtree(folder, ignore_errors=True)
        return write_table(folder, users, **({"items": 15, "actions": ["like", "share"]} | changes))

    return run, again


CHANGES = {
    "items": {"raw_items": [2000 + item for item in range(15)]},
    "actions": {"actions": ["share", "like"]},
    "grown": {"items": 16},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "command",
    [
        ["recommend", "RUN", "--user", "100"],
        ["recommend", "RUN", "--user", "100", "--table", "TABLE"],
        ["evaluate", "RUN"],
        ["evaluate", "RUN", "--table", "TABLE"],
        ["index", "RUN", "--kind", "ivf"],
    ],
    ids=lambda command: " ".join(command),
)
def test_a_run_refuses_a_table_that_is_not_its_own(command, change, retrieval, louder):
    run, again = retrieval
    table = again(**CHANGES[change])
    code, out, err = louder(*(str({"RUN": run, "TABLE": table}.get(word, word)) for word in command))
    assert code == 2, out
    assert err.startswith(
        f"louder: {table} {'has grown since' if change == 'grown' else 'is not the table'} {run} was made"
    )
    assert err.count("\n") == 1


def test_a_run_takes_a_table_with_other_users_and_events(retrieval, louder):
    run, again = retrieval
    again(raw_users=[500 + user for user in range(20)])
    assert louder("recommend", run, "--user", 505, "--json")[0] == 0
    assert louder("evaluate", run, "--json")[0] == 0


def test_a_ranking_run_refuses_other_categories_of_users(tmp_path, louder):
    log = ranking_table(1, users=30, longest=20, items=6)
    table = write_ranking_table(tmp_path / "t", log)
    run = untrained_run(tiny_ranking_config(table), tmp_path / "run")
    assert louder("evaluate", run, "--json")[0] == 0
    (table / "users.parquet").unlink()  # the run's is the same file
    pq.write_table(pa.table({"age": [[18, 35, None][user % 3] for user in range(30)]}), table / "users.parquet")
    code, _, err = louder("evaluate", run)
    assert code == 2
    assert "does not have the attributes of users that" in err


def test_a_ranking_run_refuses_other_series(tmp_path, louder):
    table = write_ranking_table(tmp_path / "t", ranking_table(1, users=30, longest=20, items=6))
    run = untrained_run(tiny_ranking_config(table), tmp_path / "run")
    assert louder("rank", run, "--user", "100", "--items", "1000", "--json")[0] == 0
    (table / "vocabulary" / "mood.parquet").unlink()  # the run's is the same file
    pq.write_table(pa.table({"raw": ["mood 1", "mood 0", "mood 2"]}), table / "vocabulary" / "mood.parquet")
    code, _, err = louder("rank", run, "--user", "100", "--items", "1000")
    assert code == 2
    assert "it has the series mood" in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"raw_items": [2000 + item for item in range(15)]}, "is not the table"),
        ({"raw_users": [500 + user for user in range(20)]}, "is not the table"),
        ({"actions": ["share", "like"]}, "is not the table"),
        ({"items": 16}, "has grown since"),
        ({"events": 1}, "events, but"),
    ],
    ids=["items", "users", "actions", "grown", "events"],
)
def test_a_run_goes_on_with_the_table_it_was_started_with_alone(changes, words, retrieval, tmp_path):
    _, again = retrieval
    table, run = again(), tmp_path / "trained"
    train(tiny_config(table, training=TrainingConfig(epochs=1, device="cpu")), run, quiet=True)
    config = tiny_config(table, training=TrainingConfig(epochs=2, device="cpu"))
    again(**{name: change for name, change in changes.items() if name != "events"})
    if "events" in changes:
        manifest = Manifest.read(table)
        manifest.events += 1
        manifest.write(table)
    with pytest.raises(InputError, match=rf"{words}.*--table FOLDER\), or start another run: -o NAME"):
        train(config, run, resume=True, quiet=True)
    again()
    train(config, run, resume=True, quiet=True)


def test_a_run_that_was_stopped_before_its_first_checkpoint_keeps_its_vocabularies(retrieval, tmp_path):
    _, again = retrieval
    table, run = again(), tmp_path / "trained"
    config = tiny_config(table, training=TrainingConfig(epochs=1, device="cpu"))
    train(config, run, quiet=True)
    shutil.rmtree(run / "checkpoints")
    again(raw_items=[2000 + item for item in range(15)])
    with pytest.raises(InputError, match="is not the table"):
        train(config, run, resume=True, quiet=True)
