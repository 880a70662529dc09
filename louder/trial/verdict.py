"""One answer from the numbers: is a generative recommender worth it for this log?"""

from dataclasses import dataclass

from louder.evaluation.bootstrap import Gain

FEW = 500  # users who were asked about, below which an interval is wide
SMALL = 0.05  # a gain of less, as a share, seldom pays for a service


@dataclass(frozen=True)
class Verdict:
    """answer: "yes", "no" or "unclear"; headline in one sentence, and sentences with the reasons."""

    answer: str
    headline: str
    reasons: list[str]


def decide(
    best: str,
    simple: str,
    over_simple: Gain,
    over_present: Gain | None,
    *,
    users: int,
    cut_short: bool,
    passes: float,
    minutes: float,
    by_time: bool,
) -> Verdict:
    """best      name of the better of the trained models
    simple     name of the better of the baselines
    over_...   by how much HR@10 of the best is above that of the simple one, and above that of the lists that were shown
    cut_short  whether training of the best was ended by the time while it still gained, after so many passes over the log, of a trial
               of so many minutes
    """
    against, gained = (simple, over_simple) if over_present is None else ("what you show now", over_present)
    reasons = [said(best, simple, over_simple)]
    if over_present is not None:
        reasons.append(said(best, "what you show now", over_present))
    if gained.low > 0 and (gained.ratio is None or gained.ratio >= SMALL) and over_simple.low > 0:
        answer = "yes"
        headline = f"Yes: {best} finds what people do next better than {against}. Test it with some of them."
    elif cut_short:
        answer = "unclear"
        headline = f"Too early to say: {best} was still learning when the time was up. Try again with --minutes {3 * minutes:g}."
        reasons.append(f"It had read the log {passes:.1f} times, and was still gaining.")
    elif over_present is not None and over_present.low > 0:
        answer = "unclear"
        headline = f"Perhaps: {best} is ahead of what you show now, but {simple} is as good and costs less."
    elif gained.high < 0:
        answer, headline = "no", f"No: {against} finds what people do next better than {best} does on this log."
    elif gained.low > 0:
        answer, headline = "unclear", f"Hardly: {best} is ahead of {against}, but by little."
    else:
        answer, headline = "unclear", f"Not shown: on this log {best} and {against} cannot be told apart."
    if cut_short and answer == "yes":
        reasons.append("It was still learning when the time was up, so more can be expected of more --minutes.")
    if users < FEW:
        reasons.append(
            f"Only {users:,} users could be asked about, so intervals are wide: a longer log would say more."
        )
    if not by_time:
        reasons.append(
            "The log could not be split by time, so all gains are measured under kinder conditions than life's."
        )
    return Verdict(answer, headline, reasons)


def said(this: str, other: str, gain: Gain) -> str:
    points = f"{100 * gain.mean:+.1f} points of HR@10, 95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    return f"{this} beside {other}: {minus(points)}{'' if gain.ratio is None else f' ({relative(gain.ratio)})'}."


def relative(ratio: float) -> str:
    """0.25 -> +25 %, 3.1 -> 4.1 times"""
    return f"{ratio + 1:.1f} times" if ratio >= 1 else minus(f"{100 * ratio:+.0f} %")


def minus(number: str) -> str:
    """With the sign that is as wide as a plus."""
    return number.replace("-", "−")
