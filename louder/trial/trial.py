"""The whole trial: a table in, everything that its page says out, in about so many minutes."""

import resource
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from louder.data import inspect
from louder.data.table import Table, open_table
from louder.evaluation.bootstrap import gain, interval
from louder.evaluation.retrieval_metrics import retrieval_metrics
from louder.inference.recommender import Recommender
from louder.inference.run import Run
from louder.recipes import own_log
from louder.results import Row, provenance
from louder.training.retrieval import part_loader, popularity
from louder.trial.examples import examples
from louder.trial.findings import findings
from louder.trial.models import choose, cut_short, scorer_of, trained
from louder.trial.present import Shown, read_shown
from louder.trial.systems import Held, Part, best_baselines, held_out
from louder.trial.verdict import decide

MODELS = {"SASRec": "sasrec", "HSTU": "hstu"}
SHARE = {"SASRec": 0.4, "HSTU": 0.9}  # of the time that is left when its training begins
MEASURED = 1_000, 20_000  # users of a part: at least so many, where there are some, and at most
MEASURED_A_MINUTE = 2_000
EVALUATIONS = 6  # that a model costs besides its training, in those of popularity
LENGTHS = 0, 5, 10, 20, 50, 100, 200, np.inf
KNOWN = -1, 0, 5, 20, 100, np.inf  # events of an item in training
FEWEST = 20  # users of a group that is shown
ASKED = 30  # requests that are timed
LARGER = 10  # the log whose cost is estimated, in times this one

Tell = Callable[[str], None]


def run_trial(
    table_folder: Path,
    output: Path,
    *,
    name: str,
    minutes: float = 10.0,
    spent: float = 0.0,
    size: str = "medium",
    settings: tuple[str, ...] = (),
    present: Path | None = None,
    tell: Tell = lambda text: None,
) -> Row:
    """Split, train, compare -> what was found, as plain values.

        OUTPUT/sasrec  OUTPUT/hstu   the trained runs; those of an earlier trial are replaced

    name      of the log, for people
    minutes   for all of it, of which `spent` seconds are gone. Training stops in time; measuring a first epoch may come on top
    settings  of both models, as --set takes them
    present   a file of lists that were shown, see louder.trial.present
    tell      is told what is being done

    Raises InputError for a table that is none or too small, and for lists that are of nobody.
    """
    began = time.perf_counter() - spent
    deadline = began + 60 * minutes
    table, counts, facts = open_table(table_folder), inspect.count(table_folder), own_log.facts_of(table_folder)
    most = int(np.clip(MEASURED_A_MINUTE * minutes, *MEASURED))
    chosen = {name: choose(kind, facts, table, size, settings, most) for name, kind in MODELS.items()}
    config = chosen["HSTU"].config
    part = Part(part_loader(table, config, "test"), config.evaluation.seen)
    held = held_out(part, popularity(table, part_loader(table, config, "train")))
    shown = read_shown(present, table, held) if present else None  # before anything takes long

    tell(f"asking about {len(held.rows):,} users; popularity and item-kNN")
    ranks: dict[str, np.ndarray] = {}
    systems: list[Row] = []
    for system, (scorer, words) in best_baselines(table, config).items():
        started = time.perf_counter()
        ranks[system] = part.ranks(scorer)
        systems.append({"name": system, "trained": False, "how": words, "seconds": time.perf_counter() - started})
    measuring = EVALUATIONS * systems[0]["seconds"]
    for system, model in chosen.items():
        left = max(1.0, SHARE[system] * (deadline - time.perf_counter()) - measuring) / 60
        tell(f"training {system} for up to {left:.1f} minutes")
        systems.append(trained(system, model.config, table, output / MODELS[system], left))
        measuring = max(measuring, systems[-1]["seconds"] - 60 * left)  # as long as it took the model before
        ranks[system] = part.ranks(scorer_of(output / MODELS[system]))

    tell("comparing")
    systems = [one | measured(ranks[one["name"]]) for one in systems]
    best = max((x for x in systems if x["trained"]), key=lambda x: max(x["curve"]))  # by validation, as its epoch was
    simple = max((x for x in systems if not x["trained"]), key=lambda x: x["hr@10"])
    run = output / MODELS[best["name"]]
    hits = {system: (own <= 10).astype(float) for system, own in ranks.items()}
    over = {system: gain(hits[best["name"]], own) for system, own in hits.items() if system != best["name"]}
    compared = against_shown(shown, ranks, best["name"]) if shown else None
    by_time = config.data.split.kind == "time"
    verdict = decide(
        best["name"],
        simple["name"],
        over[simple["name"]],
        None if compared is None else compared.pop("of_best"),
        users=len(held.rows),
        cut_short=cut_short(best),
        passes=best["passes"],
        minutes=minutes,
        by_time=by_time,
    )
    return {
        "name": name,
        "table": str(table_folder),
        "log": {count: getattr(table.manifest, count) for count in ("users", "items", "events", "has_times")},
        "users": len(held.rows),
        "split": chosen[best["name"]].split,
        "choices": [[choice.why, own_log.as_words(choice)] for choice in chosen[best["name"]].choices],
        "by_time": by_time,
        "seen": config.evaluation.seen,
        "positive": list(config.data.positive),
        "repeats": facts.repeats,
        "verdict": asdict(verdict),
        "best": best["name"],
        "simple": simple["name"],
        "systems": systems,
        "gains": {system: found._asdict() for system, found in over.items()},
        "by_length": groups(ranks, held.lengths, LENGTHS, "events before"),
        "by_item": groups(ranks, held.known, KNOWN, "events of the item in training"),
        "present": compared,
        "cost": cost(table, run, best, held),
        "examples": examples(run, table, held, ranks[best["name"]]),
        "findings": [finding._asdict() for finding in findings(counts, table)],
        "actions": [action for action, share in facts.actions.items() if own_log.tells(share)],
        "commands": commands(table_folder, run, name),
        "minutes": minutes,
        "seconds": time.perf_counter() - began,
        **provenance(),
    }


def measured(ranks: np.ndarray) -> Row:
    low, high = interval(ranks <= 10)
    metrics = retrieval_metrics(ranks)
    return {name: metrics[name] for name in ("hr@1", "hr@10", "hr@50", "ndcg@10", "mrr")} | {"low": low, "high": high}


def groups(ranks: dict[str, np.ndarray], by: np.ndarray, edges: tuple[float, ...], what: str) -> list[Row]:
    """HR@10 of every system for the users whose `by` [U] is in (edge, next edge]; small groups are left out."""
    rows: list[Row] = []
    for below, upto in pairwise(edges):
        chosen = (by > below) & (by <= upto)
        if chosen.sum() >= FEWEST:
            label = (
                f"{below + 1:,.0f}+"
                if np.isinf(upto)
                else f"{below + 1:,.0f}–{upto:,.0f}"
                if upto > below + 1
                else f"{upto:,.0f}"
            )
            hits = {name: float((own[chosen] <= 10).mean()) for name, own in ranks.items()}
            rows.append({"group": label, "what": what, "users": int(chosen.sum()), "hr@10": hits})
    return rows


def against_shown(shown: Shown, ranks: dict[str, np.ndarray], best: str) -> Row:
    """The lists that were shown and every system, asked about the same users, by as many places as the lists have."""
    k, own = shown.longest, shown.ranks <= shown.longest
    found = {name: all_ranks[shown.asked] <= k for name, all_ranks in ranks.items()}
    over = {name: gain(hits.astype(float), own.astype(float)) for name, hits in found.items()}
    return {
        "users": len(shown.asked),
        "k": k,
        "rows": shown.rows,
        "unknown": shown.unknown,
        "timed": shown.timed,
        "hr": float(own.mean()),
        "systems": {name: {"hr": float(found[name].mean()), **over[name]._asdict()} for name in ranks},
        "of_best": over[best],
    }


def cost(table: Table, run: Path, best: Row, held: Held) -> Row:
    """What training and asking cost here, and a straight line to a larger log."""
    recommender = Recommender(run, table.path)
    users = table.user_ids.raws(held.users[:: max(1, len(held.users) // ASKED)][:ASKED])
    times = []
    for user in users:
        started = time.perf_counter()
        recommender.recommend(user=user, k=10)
        times.append(1000 * (time.perf_counter() - started))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    bytes_on_disk = sum(file.stat().st_size for file in Run.open(run).folder.rglob("*.safetensors"))
    here = {
        "train_seconds": best["train_seconds"],
        "events_per_s": best["events_per_s"],
        "request_ms": float(np.median(times)),
        "memory_bytes": memory,
        "checkpoint_bytes": bytes_on_disk,
    }
    items = table.items * LARGER
    return here | {
        "larger": LARGER,
        "larger_train_seconds": best["train_seconds"] * LARGER,
        "larger_items": items,
        "larger_checkpoint_bytes": bytes_on_disk * LARGER,
    }


def commands(table: Path, run: Path, name: str) -> dict[str, str]:
    """What to type next, by what it is for."""
    final = Path("runs") / name
    return {
        "serve": shlex.join(["louder", "serve", str(run), "--open"]),
        "train": shlex.join(["louder", "train", "--table", str(table), "-o", str(final)]),
        "serve_final": shlex.join(["louder", "serve", str(final)]),
        "report": shlex.join(["louder", "report", str(run)]),
    }
