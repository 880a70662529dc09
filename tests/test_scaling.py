"""The scaling experiment: what is counted, what is left to do, and that a point stopped and resumed is the same."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from experiments.scaling import __main__ as command
from experiments.scaling import figure, fit, points, sizes, stream
from experiments.scaling.points import Point
from experiments.scaling.stream import Scale, lots_of
from experiments.scaling.tasks import against_truth, task_of
from experiments.scaling.train import Training
from experiments.tables import lines
from experiments.tables import scaling as scaling_tables
from louder.errors import InputError
from louder.models.flops import flops
from louder.results import read_rows

TINY = Scale(items=60, categories=12, length=24, test_users=6)
NOW = Point("rate", "hstu", 1, 2e6, 0, 3e-3)


@pytest.mark.parametrize("model", list(sizes.MODELS))
def test_the_operations_of_a_user_are_those_counted_on_its_batches(model):
    task = task_of(sizes.config_of(model, 2), replace(TINY, length=130))
    counted = sum(flops(task.build(), sizes.given(batch)) for batch in task.loader(0, users=1).batches())
    against = 0 if model in sizes.RANKERS else 2 * 129 * (1 + 128) * 16  # dot products with a target and 128 negatives
    # of impression-level models, what a history of few items makes once for all of them differs with the catalogue
    near = 0.02 if model in ("dlrm", "wukong") else 0
    assert sizes.flops_per_user.__wrapped__(model, 2, 130) == pytest.approx(counted + against, rel=near)


def test_a_user_is_read_in_windows_that_predict_each_exposure_once():
    assert sizes.windows(10, 20) == [10]
    assert sizes.windows(9, 4) == [4, 4, 4, 3]  # 0 to 3, then two new ones each: 2 to 5, 4 to 7, 6 to 8
    task = task_of(sizes.config_of("hstu", 1), replace(TINY, length=100))
    loader = task.loader(0, users=3, shuffle=False)
    assert loader.lengths.tolist() == 3 * sizes.windows(100, sizes.events(1))
    rows = np.concatenate([batch.rows.numpy() for batch in loader.batches()])
    assert sorted(rows) == list(range(300))
    task = task_of(sizes.config_of("next-hstu", 1), replace(TINY, length=100))
    targets = sum(int((batch.targets >= 0).sum()) for batch in task.loader(0, users=3).batches())
    assert targets == 3 * 99


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


@pytest.mark.parametrize("model", list(sizes.MODELS))
def test_every_model_trains_and_is_measured(tmp_path, model):
    scale = replace(TINY, items=300, test_users=128)
    row = Training(Point("rate", model, 1, 1e8, 0, 1e-2), 1e-2, tmp_path, scale).row()
    trained = Training(Point("rate", model, 1, 1e8, 0, 1e-2), 1e-2, tmp_path, scale)
    trained.run()
    after, law = trained.row(), fit.law_of(model)
    assert points.badness(after) < points.badness(row)
    assert np.mean(after[law.groups]) == pytest.approx(after[law.metric], abs=1e-5)
    assert after["exposures"] == trained.users * (TINY.length - (model in sizes.NEXT_ITEM))


@pytest.mark.parametrize("model", ["hstu", "next-hstu"])
def test_a_point_stopped_between_two_lots_ends_as_one_that_was_not(tmp_path, model):
    whole = Training(Point("point", model, 1, 1e8), 3e-3, tmp_path / "a", TINY)
    assert len(lots_of(0, whole.users)) >= 2
    whole.run()
    first = Training(whole.point, 3e-3, tmp_path / "b", TINY)
    first.train_lot(*lots_of(0, whole.users)[0])
    first.lots = 1
    first.save()
    clocks = {"train_seconds": 0, "cpu_seconds": 0}
    second = Training(whole.point, 3e-3, tmp_path / "b", TINY)
    second.run()
    assert (second.exposures, second.step) == (whole.exposures, whole.step)
    for one, other in zip(second.model.parameters(), whole.model.parameters()):
        assert torch.equal(one, other)
    assert second.row() | clocks == whole.row() | clocks


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


def test_a_plan_adds_up_the_hours_of_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(command, "speed", lambda model, size: 1e9 * size)
    todo = points.grid("hstu", [3e12], [0])
    done = {**vars(todo[0]), "asked_rate": None}
    command.print_plan(todo, [done])
    hours = sum(3e12 / (1e9 * point.size) / 3600 for point in todo[1:])
    out = capsys.readouterr().out
    assert f"2 of 3 points are left: about {hours:.1f} hours" in out and " done\n" in out


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
    assert points.lowest([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) == (0.0, 1.0)
    assert points.lowest([(x, (x - 1.25) ** 2 + 7) for x in (0.0, 1.0, 3.0)]) == pytest.approx((1.25, 7.0))


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


def made_rows(a=30.0, b=0.25, seeds=2, noise=0.0, upto=points.COMPUTE[-1], beyond=False):
    """Excess a C^-b at the best size, 2 (C / 3e11)^(1/6) times 2, and a parabola in ln size around it."""
    rng = np.random.default_rng(5)
    users = rng.normal(0, 0.2, 64)
    rows = []
    for compute in [c for c in points.COMPUTE if c <= upto] + [points.BEYOND] * beyond:
        best = 4 * (compute / 3e11) ** (1 / 6)
        for size in range(max(1, round(0.6 * best)), round(1.7 * best) + 1, max(1, round(best / 3))):
            for seed in range(seeds):
                value = a * compute**-b * np.exp(np.log(size / best) ** 2 / 2 + rng.normal(0, noise))
                groups = value * np.exp(users) / np.exp(users).mean()
                facts = {"kind": "point", "model": "hstu", "size": size, "compute": compute, "seed": seed}
                rows.append(facts | {"excess_ne": value, "excess_by_group": groups.tolist()})
    return rows


def test_a_law_put_into_rows_is_found_again():
    fitted = fit.fit(fit.cells_of(made_rows(), "hstu", fit.EXCESS), fit.EXCESS)
    assert fitted.rate == pytest.approx(0.25, abs=0.002)
    assert np.exp(fitted.line.start) == pytest.approx(30, rel=0.05)
    assert fitted.line.size_slope == pytest.approx(1 / 6, abs=0.01)
    assert fitted.size(points.BEYOND)[0] == pytest.approx(4 * 1000 ** (1 / 6), rel=0.03)
    assert fitted.decades == pytest.approx(np.log10(1e14 / 3e11))


def test_the_interval_of_a_noisy_law_holds_it_and_is_wider_than_without_noise():
    quiet, noisy = (
        fit.fit(fit.cells_of(made_rows(noise=noise, seeds=4), "hstu", fit.EXCESS), fit.EXCESS) for noise in (0.0, 0.05)
    )
    low, high = noisy.rate_interval
    assert low < 0.25 < high
    assert 0 < high - low < 0.1
    assert high - low > 5 * (quiet.rate_interval[1] - quiet.rate_interval[0])
    value, low, high = quiet.value(1e13)  # all points have the same users, so these move the curve as a whole
    assert low < value < high and high - low > 0.05 * value


def test_hits_are_a_line_in_ln_compute():
    rows = [
        {
            "kind": "point",
            "model": "hstu",
            "compute": c,
            "size": size,
            "hits_by_group": [0.02 * np.log(c) - 0.1 * off] * 4,
        }
        for c in points.COMPUTE
        for size, off in ((3, 1), (4, 0), (5, 1))
    ]
    fitted = fit.fit(fit.cells_of(rows, "hstu", fit.HITS), fit.HITS)
    assert fitted.rate == pytest.approx(0.02, rel=0.01)
    assert fitted.value(points.BEYOND)[0] == pytest.approx(0.02 * np.log(points.BEYOND), rel=0.01)
    assert fit.fit(fit.cells_of(rows[:3], "hstu", fit.HITS), fit.HITS) is None


def test_a_prediction_comes_before_the_training_and_once():
    rows = made_rows()
    assert points.beyond("hstu", rows) == []
    with pytest.raises(InputError, match=r"span 1\.0 decades"):
        fit.prediction(made_rows(upto=3e12), "hstu", fit.EXCESS)
    row = fit.prediction(rows, "hstu", fit.EXCESS)
    assert row["size"] == round(4 * 1000 ** (1 / 6))
    assert row["size_interval"] == pytest.approx([row["size_exact"]] * 2)  # of seeds that agree
    assert {point.size for point in points.beyond("hstu", [*rows, row])} >= {row["size"]}
    for later in [*rows, row], made_rows(beyond=True):
        with pytest.raises(InputError, match="not predicted again"):
            fit.prediction(later, "hstu", fit.EXCESS)


def test_the_figure_has_every_point_inside_its_axes():
    cells = fit.cells_of(made_rows(), "hstu", fit.EXCESS)
    svg = ElementTree.fromstring(figure.drawing(cells, fit.fit(cells, fit.EXCESS)))
    dots = svg.findall(".//{*}circle")
    assert len(dots) == 2 * sum(len(sizes) for sizes in cells.values())
    for dot in dots:
        assert figure.TOP <= float(dot.get("cy")) <= figure.BOTTOM
        assert any(left <= float(dot.get("cx")) <= left + figure.PANEL for left in figure.LEFTS)
    assert figure.exponent(3e11) == "3·10¹¹" and figure.exponent(1e12) == "10¹²"


def test_the_tables_of_the_page_are_those_of_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FOLDERS", (tmp_path,))
    assert all(len(make()) == 1 and "yet" in make()[0] for make in scaling_tables.TABLES.values())
    facts = {"ne": 0.7, "flops_per_exposure": 1234.0, "exposures": 5678, "learning_rate": 0.01}
    rows = [row | facts for row in made_rows(seeds=1)]
    rows.append(fit.prediction(rows, "hstu", fit.EXCESS))
    (tmp_path / "scaling.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(scaling_tables.points()) == 2 + len(rows) - 1
    assert "scaling.svg" in scaling_tables.figure()[0]
    (law,) = scaling_tables.laws()[2:]
    assert "a · C^-0.25" in law and law.endswith("| 2.5 | 1 | yes |")
    assert "not trained yet" in scaling_tables.predictions()[2]
