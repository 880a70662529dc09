"""The scaling experiment: what is counted, what is left to do, and that a point stopped and resumed is the same."""

import json

import numpy as np
import pytest

from experiments.scaling import __main__ as command
from experiments.scaling import points, sizes, stream
from experiments.scaling.points import Point
from experiments.scaling.stream import Stream, lots_of
from experiments.scaling.train import Training, World, against_truth
from louder.errors import InputError
from louder.models.flops import flops
from louder.results import read_rows

TINY = World(items=60, categories=12, length=24, test_users=6)
NOW = Point("rate", "hstu", 1, 2e6, 0, 3e-3)


@pytest.mark.parametrize("model", ["hstu", "dlrm", "wukong"])
def test_the_operations_of_a_user_are_those_counted_on_its_batches(model):
    stream = Stream(sizes.config_of(model, 2), 60, 12, length=130)
    counted = sum(flops(stream.build(), batch) for batch in stream.loader(0, users=1).batches())
    assert sizes.flops_per_user.__wrapped__(model, 2, 130) == pytest.approx(counted, rel=0.02)
    if model == "hstu":
        assert sizes.flops_per_user("hstu", 2, 130) == counted


def test_a_user_is_read_in_windows_that_predict_each_exposure_once():
    assert sizes.windows(10, 20) == [10]
    assert sizes.windows(9, 4) == [4, 4, 4, 3]  # 0 to 3, then two new ones each: 2 to 5, 4 to 7, 6 to 8
    stream = Stream(sizes.config_of("hstu", 1), 60, 12, length=100)
    loader = stream.loader(0, users=3, shuffle=False)
    assert loader.lengths.tolist() == 3 * sizes.windows(100, sizes.events(1))
    rows = np.concatenate([batch.rows.numpy() for batch in loader.batches()])
    assert sorted(rows) == list(range(300))


def test_compute_buys_users_and_sizes():
    for compute in points.COMPUTE:
        assert len(points.sizes_at(compute)) == 3
        for size in points.sizes_at(compute):
            users = sizes.users_for("hstu", size, compute)
            assert sizes.training_flops("hstu", size, users) == pytest.approx(compute, rel=0.01)
    costs = [sizes.flops_per_user("hstu", size) for size in range(1, 16)]
    assert costs == sorted(costs)


def test_seeds_and_the_test_see_other_users():
    seen = [{number for number, _ in lots} for lots in (lots_of(0, 1000), lots_of(1, 1000), stream.held_out_lots(1000))]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert [users for _, users in lots_of(0, 300)] == [128, 128, 44]


def test_a_point_stopped_between_two_lots_ends_as_one_that_was_not(tmp_path):
    whole = Training(Point("point", "hstu", 1, 1e8), 3e-3, tmp_path / "a", TINY)
    assert len(lots_of(0, whole.users)) >= 2
    whole.run()
    first = Training(whole.point, 3e-3, tmp_path / "b", TINY)
    first.train_lot(*lots_of(0, whole.users)[0])
    first.lots = 1
    first.save()
    second = Training(whole.point, 3e-3, tmp_path / "b", TINY)
    second.run()
    assert (second.exposures, second.step) == (whole.exposures, whole.step) == (whole.total, whole.step)
    assert {**second.row(), "train_seconds": 0} == {**whole.row(), "train_seconds": 0}


def test_points_with_a_row_are_skipped(tmp_path, monkeypatch):
    file = tmp_path / "rows.jsonl"
    other = Point("rate", "hstu", 1, 2e6, 0, 6e-3)
    command.run([NOW], file, None, tmp_path, TINY)
    (row,) = read_rows(file)
    assert points.point_of(row) == NOW
    assert row["flops"] == sizes.training_flops("hstu", 1, row["users"], TINY.length)
    assert row["command"].startswith("python -m") or row["command"].startswith("louder")
    assert points.left([NOW, other], read_rows(file)) == [other]
    command.run([NOW, other], file, 0, tmp_path, TINY)  # no minutes: nothing begins
    assert len(read_rows(file)) == 1
    monkeypatch.setattr(command.points, "left", lambda *_: pytest.fail("asked twice") if read_rows(file)[1:] else [])
    command.run([NOW], file, None, tmp_path, TINY)
    assert not list(tmp_path.glob("rate-*"))


def test_the_rate_of_a_size_is_read_off_the_small_ones():
    def row(size, rate):  # a parabola in ln rate around 0.01 / size
        return {
            "kind": "rate",
            "model": "hstu",
            "size": size,
            "learning_rate": rate,
            "excess_ne": 0.1 + np.log(rate * size / 0.01) ** 2,
        }

    rows = [row(size, rate) for size in (2, 4) for rate in (1e-3, 2e-3, 4e-3, 8e-3)]
    assert points.rate_of("hstu", 8, rows) == pytest.approx(0.01 / 8, rel=0.01)
    with pytest.raises(InputError, match="run the rates first"):
        points.rate_of("hstu", 8, rows[:4])
    assert points.lowest([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) == 0.0


def test_excess_is_zero_at_the_truth_and_what_labels_would_say_elsewhere():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.95, 6 * 4000)
    assert against_truth(truth, truth, 6)["excess_ne"] == 0
    poorer = 0.5 * truth + 0.2
    row = against_truth(truth, poorer, 6)
    labels = rng.random(len(truth)) < truth
    losses = -np.where(labels, np.log(poorer), np.log1p(-poorer)).mean()
    share = labels.mean()
    measured = losses / -(share * np.log(share) + (1 - share) * np.log1p(-share))
    assert row["ne"] == pytest.approx(measured, abs=0.01)
    assert row["ne"] - row["truth_ne"] == pytest.approx(row["excess_ne"], abs=2e-6)
    assert np.mean(row["excess_by_group"]) == pytest.approx(row["excess_ne"], abs=1e-6)
    json.dumps(row)
