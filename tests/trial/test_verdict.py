"""The answer for gains that are clear."""

import pytest

from louder.evaluation.bootstrap import Gain
from louder.trial.verdict import decide, relative


def by(mean: float, half: float = 0.01, of: float = 0.2) -> Gain:
    return Gain(mean, mean - half, mean + half, mean / of, (mean - half) / of, (mean + half) / of)


def decided(over_simple: Gain, over_present: Gain | None = None, **changes: object):
    facts = {"users": 5_000, "cut_short": False, "passes": 5.0, "minutes": 10.0, "by_time": True} | changes
    return decide("HSTU", "item-kNN", over_simple, over_present, **facts)


@pytest.mark.parametrize(
    ("over_simple", "over_present", "answer", "begins"),
    [
        (by(0.05), None, "yes", "Yes: HSTU finds what people do next better than item-kNN"),
        (by(0.05), by(0.04), "yes", "Yes: HSTU finds what people do next better than what you show now"),
        (by(-0.05), None, "no", "No: item-kNN"),
        (by(0.05), by(-0.05), "no", "No: what you show now"),
        (by(0.004, 0.002), None, "unclear", "Hardly"),
        (by(0.005), None, "unclear", "Not shown: on this log HSTU and item-kNN"),
        (by(0.05), by(0.02, 0.03), "unclear", "Not shown: on this log HSTU and what you show now"),
        (by(0.05), by(0.0), "unclear", "Not shown: on this log HSTU and what you show now"),
        (by(0.0), by(0.05), "unclear", "Perhaps: HSTU is ahead of what you show now, but item-kNN"),
    ],
)
def test_the_answer_goes_by_the_intervals(over_simple, over_present, answer, begins):
    verdict = decided(over_simple, over_present)
    assert verdict.answer == answer
    assert verdict.headline.startswith(begins)
    assert len(verdict.reasons) == 1 + (over_present is not None)


def test_a_training_that_was_cut_short_is_no_reason_to_say_no():
    verdict = decided(by(-0.05), cut_short=True, passes=0.4)
    assert (verdict.answer, verdict.headline[:17]) == ("unclear", "Too early to say:")
    assert verdict.headline.endswith("Try again with --minutes 30.")
    assert "read the log 0.4 times" in verdict.reasons[-1]
    better = decided(by(0.05), cut_short=True)
    assert better.answer == "yes" and "more can be expected" in better.reasons[-1]


def test_few_people_and_a_kinder_split_are_told():
    assert "Only 40 users" in decided(by(0.05), users=40).reasons[-1]
    assert "could not be split by time" in decided(by(0.05), by_time=False).reasons[-1]


def test_large_gains_are_told_in_times():
    assert [relative(x) for x in (0.254, -0.5, 3.1)] == ["+25 %", "−50 %", "4.1 times"]
