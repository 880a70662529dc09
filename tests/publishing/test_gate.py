"""What may be published, and when the served version is left; bounds by arithmetic that can be checked."""

import math

import numpy as np
import pytest
import torch
from versions import changed, model, window

from louder.errors import InputError
from louder.publishing import Bounds, Keeping, WindowMetrics, current_version, publish, roll_back_if_worse
from louder.publishing.chain import numbers, refusals
from louder.publishing.gate import histogram_of, objections, population_stability
from louder.publishing.publish import as_rows

BOUNDS = Bounds(worse=0.02, fallen=0.1, stability=0.25, unknown=0.5, fewest_events=1000)
EVEN = np.arange(1000) / 1000


@pytest.mark.parametrize(
    ("new", "served", "words"),
    [
        (window(ne=0.816), window(ne=0.8), []),  # exactly 2 %
        (
            window(ne=0.8161),
            window(ne=0.8),
            ["its ne is 0.8161, and the served version has 0.8000: worse by more than 2.0%"],
        ),
        (window(ne=0.5), window(ne=0.8), []),
        (window(auc=0.736), window(auc=0.75), []),
        (window(auc=0.7349), window(auc=0.75), ["its auc is 0.7349"]),
        (window(auc=0.9), window(ne=0.8), []),  # of which the served one has none
        (window(ne=math.nan), window(), ["ne is nan, which is no number"]),
        (window(ne=9.0, events=999), window(), []),  # too few to tell
        (window(ne=math.nan, events=1), None, ["ne is nan"]),
        (window(unknown=0.5), None, []),
        (window(unknown=0.51), None, ["51.0% of the events are of unknown ids, and 50.0% is the bound"]),
        (window(scores=EVEN), window(scores=EVEN), []),
        (window(scores=EVEN + 1), window(scores=EVEN), ["its scores have moved by"]),
        (window(scores=EVEN), None, []),
    ],
)
def test_each_number_has_its_bound(new, served, words):
    found = objections(new, served, BOUNDS)
    assert len(found) == len(words) and all(word in sentence for word, sentence in zip(words, found))


def test_the_stability_index_is_that_of_the_shares():
    served = histogram_of(EVEN)
    assert served.shares == pytest.approx([0.1] * 10) and len(served.edges) == 9
    assert population_stability(served, EVEN) == pytest.approx(0, abs=1e-12)
    half = np.concatenate([EVEN[:500], EVEN[:500]])  # the upper five bins are empty: shares .2 and 0
    expected = 5 * (0.2 - 0.1) * math.log(2) + 5 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert population_stability(served, half) == pytest.approx(expected, rel=1e-6)
    alike = np.full(50, 0.25)  # all in one bin
    assert population_stability(histogram_of(alike), alike) == pytest.approx(0, abs=1e-9)


def test_what_is_refused_stays_aside_and_says_why(tmp_path):
    first = model()
    done = publish(tmp_path, first, measured=window(ne=0.8, scores=EVEN))
    worse = publish(tmp_path, changed(first, rows=[1]), measured=window(ne=0.9, scores=EVEN + 5))
    assert worse.version == done.version == current_version(tmp_path) and numbers(tmp_path) == [1]
    assert len(worse.refused) == 2
    (noted,) = refusals(tmp_path)
    assert (noted["number"], noted["why"], noted["window"]["metrics"]) == (1, list(worse.refused), {"ne": 0.9})
    taken = publish(tmp_path, changed(first, rows=[1]), measured=window(ne=0.9), force=True)
    assert not taken.refused and taken.version.number == 2
    again = publish(tmp_path, changed(first, rows=[2]), measured=window(ne=0.91), served=window(ne=0.95))
    assert not again.refused  # the window was harder for the served one, too


def test_numbers_that_are_not_finite_are_refused_even_by_force(tmp_path):
    broken = model()
    broken.weights["layers.0.bias"][2] = torch.inf
    done = publish(tmp_path, broken, force=True)
    assert (done.version, done.refused) == (None, ["the weight layers.0.bias holds numbers that are not finite"])
    with pytest.raises(InputError, match="has no version yet"):
        current_version(tmp_path)


def test_a_version_that_falls_is_left_for_the_one_before(tmp_path):
    first = model()
    publish(tmp_path, first, measured=window(ne=0.8))
    publish(tmp_path, changed(first, rows=[1]), measured=window(ne=0.8))

    def look(ne, events=5000, before=None):
        return roll_back_if_worse(tmp_path, window(ne=ne, events=events), before=before, bounds=BOUNDS)

    assert look(0.88) is None and look(0.9, events=10) is None
    assert look(0.9, before=window(ne=0.9)) is None  # so is the one before
    assert look(0.881).number == current_version(tmp_path).number == 1
    assert "its ne is 0.8810, and the window of its publication has 0.8000" in refusals(tmp_path)[-1]["why"][0]
    assert look(5.0) is None  # nothing was before
    served = [(row["version"], row["served"], row["window"]["metrics"]["ne"]) for row in as_rows(tmp_path)]
    assert served == [(1, True, 0.8), (2, False, 0.8)]


def test_settings_are_bounded_and_old_refusals_go(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"gate\.worse"):
        Bounds(worse=-1)
    with pytest.raises(InputError, match=r"keeping\.versions"):
        Keeping(versions=0)
    monkeypatch.setattr("louder.publishing.chain.MOST_REFUSED", 2)
    publish(tmp_path, model())
    for _ in range(3):
        publish(tmp_path, model(), measured=WindowMetrics(events=1, metrics={"ne": math.inf}))
    assert [one["count"] for one in refusals(tmp_path)] == [2, 3]
