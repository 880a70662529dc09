"""The synthetic log of tastes: its truth is a function of what happened, and history matters at every depth."""

from math import sqrt

import numpy as np
import pyarrow.parquet as pq
import pytest

from louder.data import synthetic_tastes as tastes
from louder.data.synthetic_tastes import HALF_LIVES, exposures, items_table, tastes_log, world
from louder.errors import InputError
from louder.evaluation.ranking_metrics import cross_entropy

SMALL = world(items=300, categories=24, seed=1)


def test_the_truth_is_the_formula_of_what_happened_before():
    lot = exposures(SMALL, 0, users=3, length=40)
    for user in range(3):
        before = None
        latest = {}
        for now, item in enumerate(lot.items[user]):
            kind = SMALL.category[item]
            logit = SMALL.quality[item]
            for scale, half_life in enumerate(HALF_LIVES):
                decay = 0.5 ** (1 / half_life)
                h = np.zeros(tastes.RANK)
                for past in range(now):  # all that happened before, each with its age
                    y = 1 if lot.likes[user, past] else -1
                    h += decay ** (now - 1 - past) * y * SMALL.vectors[scale, SMALL.category[lot.items[user, past]]]
                h *= sqrt(1 - decay**2)
                logit += tastes.STRENGTH * (np.tanh(h) @ SMALL.vectors[scale, kind]) / sqrt(tastes.RANK)
            pair = before, SMALL.group[kind]
            logit += tastes.ECHO * latest.get(pair, 0)
            assert lot.probability[user, now] == pytest.approx(1 / (1 + np.exp(-logit)))
            before, latest[pair] = SMALL.group[kind], 1 if lot.likes[user, now] else -1


def test_labels_are_drawn_from_the_truth_and_its_ne_is_that_of_a_monte_carlo():
    lot = exposures(SMALL, 0, users=512, length=64)
    p, likes = lot.probability.ravel(), lot.likes.ravel()
    tenth = np.minimum(np.argsort(np.argsort(p)) * 10 // len(p), 9)
    for part in range(10):
        some = tenth == part
        assert abs((likes - p)[some].sum()) < 4 * sqrt((p * (1 - p))[some].sum())
    drawn = np.random.default_rng(0).random((50, len(p))) < p
    losses = -np.where(drawn, np.log(p), np.log1p(-p)).mean(1)
    error = losses.std() / sqrt(len(losses))
    assert abs(losses.mean() - cross_entropy(p, p).mean()) < 4 * error
    other = np.full_like(p, p.mean())
    assert cross_entropy(p, other).mean() > cross_entropy(p, p).mean() + 0.05
    assert cross_entropy(np.array([0.25]), np.array([0.5]))[0] == pytest.approx(np.log(2))


def test_a_lot_is_its_seed_and_its_number_alone():
    one, again, other = (exposures(SMALL, number, users=5, length=9) for number in (3, 3, 4))
    assert (one.items == again.items).all() and (one.probability == again.probability).all()
    assert (one.items != other.items).any()
    assert (world(300, 24, seed=1).quality == SMALL.quality).all()


def test_what_one_did_long_ago_still_tells():
    """Of two histories that differ in the first exposures alone, the truth differs afterwards, less and less."""
    lot = exposures(SMALL, 0, users=256, length=128)
    early = lot.likes[:, :16].mean(1)
    for later in (slice(16, 32), slice(96, 128)):
        assert np.corrcoef(early, lot.probability[:, later].mean(1))[0, 1] > 0.2


def test_items_and_categories_follow_zipf_and_revisits_cluster():
    of = world(items=20_000)
    assert np.bincount(of.category, minlength=tastes.CATEGORIES).min() >= 1
    assert (np.diff(of.category) >= 0).all()
    shares = np.sort(np.diff(of.upto, prepend=0))[::-1]
    assert shares[0] / shares[980] == pytest.approx(1000 / 20, rel=0.01)  # 1 / (rank + 20), from 0
    assert of.upto[-1] == of.bounds[-1] == 1
    lot = exposures(of, 0, users=256, length=64)
    kinds = of.category[lot.items]
    again = (kinds[:, 1:] == kinds[:, :-1]).mean()
    by_chance = (np.diff(of.bounds) ** 2).sum()
    assert again > 2 * by_chance


def test_the_command_writes_lots_with_the_truth_beside_the_labels(tmp_path, louder, monkeypatch):
    monkeypatch.setattr(tastes, "USERS_AT_ONCE", 8)
    folder, table = tmp_path / "tastes", tmp_path / "table"
    code, out, _ = louder("data", "synth", "tastes", "-o", folder, "--users", 20, "--items", 300, "--categories", 24)
    assert code == 0
    of = world(300, 24)
    log = pq.read_table(folder / "log.parquet")
    assert log.num_rows == 20 * tastes.LENGTH
    assert log.equals(type(log).from_batches(tastes_log(of, 20)))
    p, share = log["probability"].to_numpy(), log["is_like"].to_numpy().mean()
    least = cross_entropy(p, p).mean() / cross_entropy(np.array([share]), np.array([share]))[0]
    assert f"have NE {least:.4f}" in out
    code, _, _ = louder("etl", folder / "log.parquet", "--schema", folder / "schema.yaml", "-o", table)
    assert code == 0
    assert (
        pq.read_table(table / "items.parquet")["category"].to_pylist()[:3]
        == items_table(of)["category"].to_pylist()[:3]
    )
    assert louder("data", "synth", "tastes", "-o", folder)[0] != 0


@pytest.mark.parametrize(
    ("wrong", "named"), [({"items": 20, "categories": 24}, "items"), ({"categories": 3}, "categories")]
)
def test_wrong_sizes_are_named(wrong, named):
    with pytest.raises(InputError, match=named):
        world(**wrong)
