"""A run that retrieves and ranks, or two of them: how their stages become one score, and how good their answer is.

What reads id maps is imported where it is needed, so that training can be imported where only torch and numpy are installed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from louder import checkpoint
from louder.config import from_dict
from louder.errors import InputError
from louder.inference.run import Run
from louder.inference.scoring import Scoring, keep
from louder.results import Row
from louder.training.config import Config
from louder.training.task import OnBatch

if TYPE_CHECKING:
    from louder.evaluation.answers import Answers

REQUESTS = 4000  # at most, which give HR@10 to about .01


def answer_report(
    run: Path,
    part: str,
    *,
    table: str | None = None,
    seen: str | None = None,
    ranker: Path | None = None,
    sources: Sequence[str] = (),
    requests: int = REQUESTS,
) -> Row | None:
    """See louder.evaluation.answers.report; None where the part has nobody with a history."""
    from louder.evaluation.answers import Nobody, report

    try:
        found = whole_answers(run, part, table=table, seen=seen, ranker=ranker, sources=sources, requests=requests)
        return report(found)
    except Nobody:
        return None


def calibrate_run(
    run: Path,
    *,
    table: str | None = None,
    ranker: Path | None = None,
    sources: Sequence[str] = (),
    on_batch: OnBatch | None = None,
) -> Scoring:
    """Choose on the validation part how the stages of a run, or of a run and a ranker beside it, become one score, and keep
    it with the ranker's best checkpoint. Raises InputError where there are no two stages, or no validation part."""
    from louder.evaluation.calibration import calibrated

    found = whole_answers(run, "validation", table=table, ranker=ranker, sources=sources, on_batch=on_batch)
    scoring = calibrated(found, checkpoint.fingerprint(checkpoint.best(run)))
    keep(scoring, Run.open(ranker or run))
    return scoring


def whole_answers(
    run: Path,
    part: str,
    *,
    table: str | None = None,
    seen: str | None = None,
    ranker: Path | None = None,
    sources: Sequence[str] = (),
    requests: int = REQUESTS,
    on_batch: OnBatch | None = None,
) -> "Answers":
    """What the engine answers on a part; see louder.evaluation.answers."""
    from louder.evaluation.answers import answers
    from louder.inference.engine import Engine

    engine = Engine(run, ranker, table=table, exact=True, sources=sources)
    config = from_dict(Config, engine.run.config)
    if ranker is not None:
        beside = from_dict(Config, Run.open(ranker).config)
        splits = {(each.data.split.divides_by, each.protocol) for each in (config, beside)}
        if len(splits) > 1:
            raise InputError(
                f"{run} and {ranker} hold out different events (data.split or protocol), so one has been trained on what "
                "the other is asked. Train both with the same split."
            )
    if part == "validation" and config.held_out == 1:
        raise InputError(
            f"{run} was trained under protocol {config.protocol!r}, which keeps no validation part to choose on. "
            "Train it with one: --set protocol=validated."
        )
    repeats = (seen or config.evaluation.seen) == "none"
    return answers(
        engine, part, config.data, held_out=config.held_out, requests=requests, seen=repeats, on_batch=on_batch
    )
