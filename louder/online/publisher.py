"""Each window's model into a folder of versions, past the gate: who is compared is compared on the same events."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from louder.errors import InputError
from louder.models import AnyRanker, SequentialModel
from louder.online.items import fitted
from louder.online.learner import Learner, Measured
from louder.online.sequences import Sequences
from louder.publishing import Bounds, Version, WindowMetrics, current_version, publish, roll_back_if_worse
from louder.publishing.chain import is_chain, parent_of, state_of
from louder.publishing.gate import worse_metrics
from louder.publishing.state import read_state
from louder.results import Row

MOST_SCORES = 20_000


class Publisher:
    """folder  of versions, which a service follows: louder serve FOLDER"""

    def __init__(self, folder: Path, bounds: Bounds = Bounds()) -> None:
        self.folder, self.bounds = folder, bounds
        self.own = ""  # hash of the version that has the weights with which the next window is foretold

    def __call__(self, learner: Learner, window: Sequences, measured: Measured, row: Row, checkpoint: Path) -> Row:
        """What is added to the row of a window. The trainer's model before the window stands for the new one, since nobody can
        say how well that foretells what it has learnt from."""
        unknown = row["unknown"] / row["events"] if row["events"] else None
        mine = metrics_of(learner, measured, unknown)
        served = self.measured_version(learner, window, unknown, mine)
        if served is not None:
            back = self.fallen(learner, window, unknown, served)
            if back is not None:
                return {"published": back.name, "rolled_back": True}
        state = read_state(checkpoint)
        state = replace(state, state={name: value for name, value in state.state.items() if name != "stream"})
        done = publish(self.folder, state, measured=mine, served=served, bounds=self.bounds)
        version = done.version
        found: Row = {"published": None if version is None else version.name, "refused": list(done.refused)}
        if version is not None and not done.refused:
            self.own = version.hash
            found |= {"version_kind": version.kind, "version_bytes": version.bytes}
        else:
            self.own = ""
        return found

    def measured_version(
        self, learner: Learner, window: Sequences, unknown: float | None, mine: WindowMetrics
    ) -> WindowMetrics | None:
        """Of the served version in this window; None where nothing is served."""
        if not is_chain(self.folder):
            return None
        served = current_version(self.folder)
        return mine if served.hash == self.own else of_version(served, learner, window, unknown)

    def fallen(
        self, learner: Learner, window: Sequences, unknown: float | None, served: WindowMetrics
    ) -> Version | None:
        """The version that is served from now on, where the one before is better in this window beyond the bound."""
        version = current_version(self.folder)
        if version.parent is None or served.events < self.bounds.fewest_events:
            return None
        if not self.looks_fallen(version, served):
            return None
        try:
            before = of_version(parent_of(version), learner, window, unknown)
        except InputError:  # it is not kept any more
            return None
        return roll_back_if_worse(self.folder, served, before=before, bounds=self.bounds)

    def looks_fallen(self, version: Version, served: WindowMetrics) -> bool:
        """Whether it is worth measuring the one before: by the window of the publication, which was another."""
        facts: Any = version.facts["window"]
        return facts is None or bool(worse_metrics(served, WindowMetrics.of_facts(facts), self.bounds.fallen, ""))


def of_version(version: Version, learner: Learner, window: Sequences, unknown: float | None) -> WindowMetrics:
    model: SequentialModel | AnyRanker = copy.deepcopy(learner.model)
    try:
        model.load_state_dict(fitted(state_of(version).weights, model))
    except RuntimeError as error:
        raise InputError(
            f"{version.folder} is of another model than the stream's. Publish into another folder: --publish FOLDER."
        ) from error
    return metrics_of(learner, learner.measure(window, model), unknown)


def metrics_of(learner: Learner, measured: Measured, unknown: float | None) -> WindowMetrics:
    """What the gate looks at: of the next item, and of the action by which the run was chosen. Losses alone, since every
    event tells something of them: HR@10 of ten thousand events differs by a tenth between two models that are as good."""
    metrics, events, scores = dict[str, float](), 0, None
    if (found := measured.row.get("next_item", {})).get("events"):
        events = found["events"]
        metrics["log_perplexity"] = found["log_perplexity"]
    if (found := measured.row.get("ranking", {})).get("impressions"):
        events = max(events, found["impressions"])
        main = found["actions"][learner.run.main]
        metrics |= {"ne": main["ne"]} if main["ne"] is not None else {}
        own = measured.probabilities[:, learner.run.actions.index(learner.run.main)]
        scores = own[:: max(1, len(own) // MOST_SCORES)].astype(np.float64)
    return WindowMetrics(events=events, metrics=metrics, unknown=unknown, scores=scores)
