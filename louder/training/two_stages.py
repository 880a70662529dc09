"""A run that retrieves and ranks, or two of them: how their stages become one score, and how good their answer is."""

from pathlib import Path

from louder import checkpoint
from louder.config import from_dict
from louder.errors import InputError
from louder.evaluation.answers import Answers, Nobody, answers, report
from louder.evaluation.calibration import calibrated
from louder.inference.engine import Engine
from louder.inference.run import Run
from louder.inference.scoring import Scoring, keep
from louder.results import Row
from louder.training.config import Config
from louder.training.task import OnBatch


def answer_report(
    run: Path, part: str, *, table: str | None = None, seen: str | None = None, ranker: Path | None = None
) -> Row | None:
    """See louder.evaluation.answers.report; None where the part has nobody with a history."""
    try:
        return report(whole_answers(run, part, table=table, seen=seen, ranker=ranker))
    except Nobody:
        return None


def calibrate_run(
    run: Path, *, table: str | None = None, ranker: Path | None = None, on_batch: OnBatch | None = None
) -> Scoring:
    """Choose on the validation part how the stages of a run, or of a run and a ranker beside it, become one score, and keep
    it with the ranker's best checkpoint. Raises InputError where there are no two stages, or no validation part."""
    found = whole_answers(run, "validation", table=table, ranker=ranker, on_batch=on_batch)
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
    on_batch: OnBatch | None = None,
) -> Answers:
    """What the engine answers on a part; see louder.evaluation.answers."""
    engine = Engine(run, ranker, table=table, exact=True)
    config = from_dict(Config, engine.run.config)
    if ranker is not None:
        beside = from_dict(Config, Run.open(ranker).config)
        if (beside.data.split, beside.protocol) != (config.data.split, config.protocol):
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
    return answers(engine, part, config.data, held_out=config.held_out, seen=repeats, on_batch=on_batch)
