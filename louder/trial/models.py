"""The models of a trial: their settings, and their training in a number of minutes."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from louder.config import override
from louder.data.table import Table
from louder.evaluation.retrieval import Scorer, model_scorer
from louder.inference.run import Run
from louder.recipes import own_log
from louder.recipes.own_log import Choice, TableFacts
from louder.results import Row, read_rows
from louder.training.config import Config
from louder.training.loop import train
from louder.training.retrieval import part_loader
from louder.trial.split import choose_split

STILL_LEARNING = 2  # a model was, if one of its latest so many epochs was the best


@dataclass(frozen=True)
class Chosen:
    """A config, what the rules chose in it, and what its split is, in words."""

    config: Config
    choices: list[Choice]
    split: str


def choose(kind: str, facts: TableFacts, table: Table, size: str, settings: tuple[str, ...], most: int) -> Chosen:
    """What the rules choose for a kind of model, for the next item alone, with the split of a trial; at most so many users
    are measured. `settings` win."""
    own = [f"model.kind={kind}", "ranking=null", f"evaluation.users={most}"]
    config, choices = own_log.config_for(facts, table.path, size=size, settings=[*own, *settings], name=f"try-{kind}")
    if config.data.split.kind != "leave_last_out":
        return Chosen(config, choices, f"As the settings say: {asdict(config.data.split)}.")
    split, said = choose_split(table, table.action_mask(config.data.positive))
    if split.kind == "time":
        parts = f"{{kind: time, validation_from: {split.validation_from}, test_from: {split.test_from}}}"
        config = override(config, [f"data.split={parts}"])
    return Chosen(config, choices, said)


def trained(name: str, config: Config, table: Table, run: Path, minutes: float) -> Row:
    """Train a run in so many minutes, in place of an earlier one -> what it took, and how far it came."""
    started = time.perf_counter()
    result = train(override(config, [f"training.minutes={minutes}"]), run, overwrite=True)
    epochs = [row for row in read_rows(run / "log.jsonl") if row["kind"] == "epoch"]
    steps = len(part_loader(table, config, "train")) / config.data.users_per_batch
    passes = epochs[-1]["step"] / steps
    return {
        "name": name,
        "trained": True,
        "run": str(run),
        "seconds": time.perf_counter() - started,
        "train_seconds": result["train_seconds"],
        "epoch": result["epoch"],
        "epochs_trained": result["epochs_trained"],
        "stopped_by": result["stopped_by"],
        "passes": passes,
        "events_per_s": float(np.median([row["events_per_s"] for row in epochs])),
        "curve": [row["ndcg@10"] for row in epochs if "part" in row],
        "how": how_far(result, passes),
    }


def how_far(result: Row, passes: float) -> str:
    if result["stopped_by"] == "minutes":
        return f"read the log {passes:.1f} times, then the time was up"
    why = "until validation gained no more" if result["stopped_by"] == "patience" else "to the end"
    return f"read the log {passes:.0f} times, {why}; the best was {result['epoch'] + 1}"


def cut_short(system: Row) -> bool:
    """Whether a model was still learning when the time was up."""
    return system["stopped_by"] == "minutes" and system["epoch"] >= system["epochs_trained"] - STILL_LEARNING


def scorer_of(run: Path) -> Scorer:
    model = Run.open(run).sequential()
    model.eval()
    return model_scorer(model)
