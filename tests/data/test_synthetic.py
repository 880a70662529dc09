"""Synthetic logs: each has a property that holds by construction."""

import json
from math import log, sqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from louder.data import synthetic
from louder.errors import InputError

STREAM = {"records": 400, "items": 2_000, "categories": 20, "length": 32}


def columns(batches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = pa.Table.from_batches(list(batches))
    return tuple(table[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))


# the paper's stream


@pytest.mark.parametrize(
    ("record", "expected"), [(0, 8_000), (250_000, 11_000), (500_000, 14_000), (750_000, 17_000), (1_000_000, 20_000)]
)
def test_released_ids_are_the_papers(record, expected):
    assert synthetic.released(record, 1_000_000, 20_000) == expected


def test_a_record_draws_released_items_only_and_from_at_most_five_categories():
    user, item, position = columns(synthetic.dirichlet(**STREAM, seed=3))
    category = np.random.default_rng(3).integers(0, 20, 2_000)[item].reshape(400, 32)
    assert (user == np.repeat(np.arange(400), 32)).all()
    assert (position == np.tile(np.arange(32), 400)).all()
    assert (item < synthetic.released(user, 400, 2_000)).all()
    distinct = [len(set(row)) for row in category]
    assert max(distinct) == 5
    assert min(distinct) == 1
    # the newest tenth of the ids is drawn as soon as it is out, and not before
    assert item[user < 320].max() < 1_760 <= item[user >= 360].max()


def test_the_paper_s_size_starts_with_8000_ids_and_80_a_category():
    first = next(synthetic.dirichlet(**synthetic.PAPER, seed=0))
    item = first["item_id"].to_numpy()
    assert len(item) == synthetic.RECORDS_AT_ONCE * 128
    assert 7_990 < item[:128_000].max() <= 8_000 + 0.6 * 20_000 * 1_000 / 1_000_000


def test_same_seed_same_stream():
    one, again, other = (columns(synthetic.dirichlet(**STREAM, seed=seed))[1] for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize("alpha", [0.5, 3.0, 100.0])
def test_two_positions_agree_as_often_as_a_dirichlet_process_says(alpha):
    # two draws are equal if the later repeats the earlier, 1 / (1 + α), or else by chance, Σ h²; whatever their distance
    prior = np.array([0.5, 0.3, 0.2, 0.0, 0.0])
    n = 20_000
    drawn = synthetic.dirichlet_process(np.tile(prior, (n, 1)), np.full(n, alpha), 40, np.random.default_rng(0))
    expected = 1 / (1 + alpha) + alpha / (1 + alpha) * (prior**2).sum()
    for a, b in (0, 1), (0, 39), (20, 39):
        assert (drawn[a] == drawn[b]).mean() == pytest.approx(expected, abs=4 * sqrt(0.25 / n))
    for position in 0, 39:
        share = np.bincount(drawn[position], minlength=5) / n
        assert share == pytest.approx(prior, abs=4 * sqrt(0.25 / n))


def test_a_small_alpha_gives_fewer_categories():
    def distinct(alpha: float) -> float:
        item = columns(synthetic.dirichlet(**STREAM, alpha=(alpha, alpha), seed=5))[1]
        category = np.random.default_rng(5).integers(0, 20, 2_000)[item].reshape(400, 32)
        return float(np.mean([len(set(row)) for row in category]))

    assert distinct(0.01) < 1.2
    assert distinct(500.0) > 2.5  # of 3 on average


def test_items_of_a_category_are_equally_likely():
    stream = synthetic.dirichlet(1_000, 50, 1, 100, initial=1.0, seed=0)
    counts = np.bincount(columns(stream)[1], minlength=50)
    assert np.abs(counts - 2_000).max() < 5 * sqrt(2_000)


def test_a_category_without_released_items_is_not_drawn():
    user, item, _ = columns(synthetic.dirichlet(100, 10, 10, 8, initial=0.1, seed=0))
    assert (item[user == 0] == 0).all()
    assert (item < synthetic.released(user, 100, 10, 0.1)).all()


def test_distinct_numbers_are_distinct_and_uniform():
    drawn = synthetic.distinct(np.repeat([3, 8], 6_000), 5, np.random.default_rng(0))
    assert (np.sort(drawn[:6_000, :3], axis=1) == [0, 1, 2]).all()
    assert (np.diff(np.sort(drawn[6_000:], axis=1), axis=1) > 0).all()
    for column in drawn[6_000:].T:
        assert np.abs(np.bincount(column, minlength=8) - 750).max() < 5 * sqrt(750)


@pytest.mark.parametrize(
    ("wrong", "named"), [({"records": 0}, "records"), ({"initial": 0.0}, "initial"), ({"alpha": (0.0, 1.0)}, "alpha")]
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(InputError, match=named):
        next(synthetic.dirichlet(**(STREAM | wrong)))


# checkerboard


@pytest.mark.parametrize("communities", [2, 5])
def test_users_stay_on_their_colour(communities):
    user, item, time = columns(synthetic.checkerboard(100, 60, length=12, communities=communities, seed=1))
    assert ((item - user) % communities == 0).all()
    assert (np.bincount(user) == 12).all()
    assert len(np.unique(user * 60 + item)) == len(user)  # nothing twice
    assert (np.diff(time) >= 0).all()
    assert len(np.unique(item)) == 60


def test_a_community_needs_enough_items():
    with pytest.raises(InputError, match="length is 20, but must be between 1 and the 10 items"):
        next(synthetic.checkerboard(10, 20, length=20))


# speed


def test_events_follow_zipfs_law():
    user, item, time = columns(synthetic.events(200_000, 500, 1_000, seed=2))
    assert len(user) == 200_000
    assert user.min() == 0
    assert user.max() == 499
    assert item.min() == 0
    assert item.max() == 999
    for i in 0, 1, 10:
        expected = log(1 + 1 / (i + 1)) / log(1_001)
        assert (item == i).mean() == pytest.approx(expected, abs=5 * sqrt(expected / 200_000))
    assert time.max() < 1_750_000_000


# the small service


@pytest.fixture(scope="module")
def demo() -> tuple[pa.Table, pa.Table]:
    return synthetic.demo_log(0)


def test_the_demo_log_looks_like_a_service(demo):
    log, films = demo
    assert log.column_names == ["user_id", "item_id", "timestamp", "watched", "liked"]
    assert 60_000 < log.num_rows < 80_000
    assert (films["item_id"].to_numpy() == np.arange(1, 601)).all()
    titles = films["title"].to_pylist()
    assert len(set(titles)) == 600
    assert all(1 <= len(genres) <= 2 for genres in films["genres"].to_pylist())
    user, item, time = (log[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    assert sorted(set(user)) == list(range(1, 2_001))
    assert (np.diff(time) >= 0).all()
    assert len(np.unique(user * 1_000 + item)) == log.num_rows  # nothing twice
    liked, watched = log["liked"].to_numpy(), log["watched"].to_numpy()
    assert (liked <= watched).all()


def test_series_are_seen_in_order(demo):
    log, films = demo
    titles = films["title"].to_pylist()
    seen: dict[tuple[int, str], int] = {}
    later = 0
    for user, item in zip(log["user_id"].to_pylist(), log["item_id"].to_pylist()):
        name, _, rest = titles[item - 1].partition(":")
        part = 1
        if rest:
            name, part = name.rsplit(" ", 1)[0], int(name.rsplit(" ", 1)[1])
        assert seen.get((user, name), 0) == part - 1
        seen[user, name] = part
        later += part > 1
    assert later / log.num_rows > 0.35  # what the order of events tells


def test_the_latest_item_predicts_the_next_better_than_popularity(demo):
    log, _ = demo
    user, item = log["user_id"].to_numpy(), log["item_id"].to_numpy()
    order = np.argsort(user, kind="stable")
    ends = np.cumsum(np.bincount(user)[1:])
    histories = np.split(item[order], ends[:-1])
    popularity = np.bincount(np.concatenate([history[:-1] for history in histories]), minlength=601).astype(float)
    follows = np.zeros((601, 601))
    for history in histories:
        np.add.at(follows, (history[:-2], history[1:-1]), 1)

    def hits(scores, history) -> bool:
        scores[history[:-1]] = -1
        return bool((scores > scores[history[-1]]).sum() < 10)

    popular = np.mean([hits(popularity.copy(), history) for history in histories])
    sequential = np.mean([hits(follows[history[-2]] + popularity / 1e6, history) for history in histories])
    assert popular < 0.2
    assert sequential > 2 * popular


def test_the_demo_log_is_its_seeds(demo):
    small, again, other = (synthetic.demo_log(seed, users=50, items=200) for seed in (7, 7, 8))
    assert small[0].equals(again[0])
    assert small[1].equals(again[1])
    assert not small[0].equals(other[0])


# files


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_log_is_written_as_it_is_made(tmp_path, suffix):
    path = tmp_path / "logs" / f"board{suffix}"
    heard: list[int] = []
    batches = list(synthetic.events(3_000, 10, 10))
    rows = synthetic.write_log(batches * 2, path, made_by={"kind": "events"}, advance=heard.append)
    assert rows == sum(heard) == 6_000
    read = pq.read_table(path) if suffix == ".parquet" else pyarrow.csv.read_csv(path)
    assert read.column_names == ["user_id", "item_id", "timestamp"]
    assert read["item_id"].to_pylist() == batches[0]["item_id"].to_pylist() * 2
    if suffix == ".parquet":
        assert json.loads(read.schema.metadata[b"louder"]) == {"kind": "events"}


def test_a_log_is_not_replaced_unasked_and_never_half_written(tmp_path):
    path = tmp_path / "log.parquet"
    synthetic.write_log(synthetic.events(10, 2, 2), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        synthetic.write_log(synthetic.events(10, 2, 2), path)

    def breaks():
        yield from synthetic.events(10, 2, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.write_log(breaks(), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["log.txt", "log"])
def test_a_log_needs_a_known_suffix(tmp_path, name):
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        synthetic.write_log(synthetic.events(10, 2, 2), tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(tmp_path):
    (tmp_path / ".log.csv.tmp").symlink_to("/dev/full")
    with pytest.raises(InputError, match="is full"):
        synthetic.write_log(synthetic.events(100_000, 2, 2), tmp_path / "log.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_log_with_its_schema(tmp_path):
    import yaml
    from typer.testing import CliRunner

    from louder.cli.data import app

    done = CliRunner().invoke(app, ["synth", "demo", "-o", str(tmp_path / "demo.parquet")])
    assert done.exit_code == 0, done.output
    assert "Next: louder etl" in done.output
    schema = yaml.safe_load((tmp_path / "demo.yaml").read_text())
    assert schema == {"actions": {"watched": "watched", "liked": "liked"}, "items": {"file": "demo-items.parquet"}}
    assert pq.read_metadata(tmp_path / "demo-items.parquet").num_rows == 600

    small = ["--records", "50", "--items", "200", "--categories", "5", "--length", "16"]
    done = CliRunner().invoke(app, ["synth", "dirichlet", "-o", str(tmp_path / "stream.csv"), *small])
    assert done.exit_code == 0, done.output
    assert pyarrow.csv.read_csv(tmp_path / "stream.csv").num_rows == 50 * 16
    assert yaml.safe_load((tmp_path / "stream.yaml").read_text()) == {"has_times": False}


def test_tastes_drift_over_a_history(demo):
    """Two halves of a history share fewer genres than its odd and its even events do."""
    log, films = demo
    genres = {item: set(own) for item, own in zip(films["item_id"].to_pylist(), films["genres"].to_pylist())}
    names = sorted(set().union(*genres.values()))
    one_hot = {item: np.array([name in own for name in names], float) for item, own in genres.items()}
    user, item = log["user_id"].to_numpy(), log["item_id"].to_numpy()
    histories = np.split(item[np.argsort(user, kind="stable")], np.cumsum(np.bincount(user)[1:])[:-1])

    def alike(a, b) -> float:
        x, y = (np.mean([one_hot[i] for i in part], axis=0) for part in (a, b))
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    long = [history for history in histories if len(history) >= 60]
    halves = np.mean([alike(own[: len(own) // 2], own[len(own) // 2 :]) for own in long])
    mixed = np.mean([alike(own[::2], own[1::2]) for own in long])
    assert halves < mixed - 0.2  # by .15 they do where series alone make a half alike
