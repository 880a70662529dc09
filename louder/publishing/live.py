"""A running engine, brought from one version to another in place: there is never a second copy of the model.

    follow ── prepare ──▶ Step ── take ──▶ the engine, between two batches

What needs time, reading and checking, is `prepare`, while the engine answers. `take` writes rows into the weights, and what
was computed from them: vectors of items and their index, for the rows that changed alone. Keys and values of histories are
computed anew when their user asks.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from louder import checkpoint
from louder.config import from_dict
from louder.data.attributes import Attribute, Column
from louder.errors import InputError
from louder.ids import IdMap
from louder.inference.catalogue import Catalogue
from louder.inference.engine import Engine
from louder.inference.run import Run
from louder.inference.scoring import Scoring
from louder.inference.search import MixtureSearch
from louder.models import RankingModel
from louder.models.embeddings import EmbeddingTable
from louder.publishing.chain import Version, chain_of, changes_of, deltas_from, require_intact, state_of
from louder.publishing.changes import (
    Changes,
    changes_between,
    len_of,
    raws_with,
    same_architecture,
    table_with,
)
from louder.publishing.gate import not_finite
from louder.publishing.item_vectors import Ahead, all_ahead, model_of, renew_items, set_columns
from louder.publishing.state import SCORING, ModelState


@dataclass(frozen=True)
class Step:
    """What an engine becomes. `run` and `catalogue` are None where no ids and attributes changed; `fetched` says why it was
    not deltas alone that led there, "" where it was."""

    version: Version
    changes: Changes
    run: Run | None
    catalogue: Catalogue | None
    columns: list[Column]
    ahead: Ahead | None
    scoring: Scoring | None
    fetched: str = ""


class AnotherModel(InputError):
    """No changes lead from the live model to this one, which has to be loaded anew."""


def open_version(version: Version, *, table: Path | None = None, cache_bytes: int = 1 << 30) -> Engine:
    """An engine on a version. Raises InputError where something is damaged or missing."""
    base, *deltas = chain_of(version)
    require_intact(base)
    run = replace(Run.open_checkpoint(base.folder, base.folder.parent), went_on=True)
    engine = Engine(run, table=table, cache_bytes=cache_bytes, exact=True)
    _ = run.fingerprint, run.user_ids, run.items, run.users  # while the files are there
    engine.version, engine.scoring = base.name, scoring_in(engine, checkpoint.load_state(base.folder))
    if deltas:
        take(engine, step_of(engine, version, changes_of(deltas)))
    return engine


def prepare(engine: Engine, live: Version, version: Version) -> Step:
    """From the version that an engine is on to another; raises AnotherModel where that is of another architecture, and
    InputError where it is damaged, or has numbers that are not finite. Nothing of the engine changes."""
    fetched = ""
    try:
        deltas = deltas_from(live.hash, version)
    except InputError as error:
        deltas, fetched = None, str(error)
    if deltas is None:
        new = state_of(version)
        old = state_now(engine, new)
        if not same_architecture(old, new):
            raise AnotherModel(f"Version {version.number} is another model than {live.number}.")
        changes = changes_between(old, new)
        fetched = fetched or f"no deltas lead from {live.number} to {version.number}, so the whole model was read"
    else:
        changes = changes_of(deltas) if deltas else Changes()
    if broken := not_finite({**changes.whole, **{name: x.values for name, x in changes.rows.items()}}):
        raise InputError(f"It cannot be served: {broken[0]}.")
    require_fits(model_of(engine), changes)
    return step_of(engine, version, changes, fetched)


def require_fits(model: nn.Module, changes: Changes) -> None:
    """So that nothing goes wrong once the weights are written to."""
    weights = model.state_dict()
    for name, x in (*changes.whole.items(), *((name, x.values) for name, x in changes.rows.items())):
        own, size = weights.get(name), changes.rows[name].size if name in changes.rows else None
        table = model.get_submodule(name.rpartition(".")[0]) if own is not None else None
        grows = isinstance(table, EmbeddingTable)
        if own is None or own.dtype != x.dtype or own.shape[1:] != x.shape[1:]:
            raise AnotherModel(f"The weight {name} is another than that of the live model.")
        if len_of(own) != (len_of(x) if size is None else size) and not (size and grows and size > len(own)):
            raise AnotherModel(f"The weight {name} has another number of rows than that of the live model.")


def state_now(engine: Engine, like: ModelState) -> ModelState:
    """Of the engine: the weights themselves, and not a copy. What it does not read, such as values of series, as in another
    state."""
    run, weights = engine.run, model_of(engine).state_dict()
    raws = {**like.raws, "item": run.item_ids.raw, "user": run.user_ids.raw}
    attributes = {name: x for name, x in (("items", run.items), ("users", run.users)) if x is not None}
    state = {"config": run.config, "actions": list(run.actions), "values": list(run.values)}
    return ModelState(weights=weights, state=state, raws=raws, attributes=attributes)


def step_of(engine: Engine, version: Version, changes: Changes, fetched: str = "") -> Step:
    scoring = scoring_in(engine, changes.state) if changes.state else None
    if not changes.raws and not changes.attributes:
        return Step(version, changes, None, None, [], all_ahead(engine, changes, []), scoring, fetched)
    run = next_run(engine.run, changes)
    catalogue = engine.catalogue.then(run)
    columns = run.item_columns() if changes.attributes else []
    if isinstance(model := model_of(engine), RankingModel):
        for old, new in zip(model.item_attributes.columns, columns):
            require_same_values(old, new)
        for old_context, new_context in zip(engine.run.context, run.context):
            require_same_values(old_context, new_context)
        _ = run.user_codes  # computed before somebody asks
    for ids in run.item_ids, run.user_ids:
        ids.ids(ids.raw[:1])
    _ = run.reader, catalogue.attributes
    return Step(version, changes, run, catalogue, columns, all_ahead(engine, changes, columns), scoring, fetched)


def next_run(old: Run, changes: Changes) -> Run:
    item_ids, user_ids = (
        IdMap(raws_with(ids.raw, changes.raws[name])) if name in changes.raws else ids
        for name, ids in (("item", old.item_ids), ("user", old.user_ids))
    )
    items, users = (
        None if table is None else table_with(table, changes.attributes.get(name))
        for name, table in (("items", old.items), ("users", old.users))
    )
    return old.then(changes.state, item_ids, user_ids, items, users)


def require_same_values(old: Column, new: Column) -> None:
    """Codes stand for the values of the training."""
    if isinstance(old, Attribute) and isinstance(new, Attribute) and old.labels != new.labels:
        raise InputError(
            f"The attribute {new.name!r} has other values than the model was trained with ({new.size - 1}, and "
            f"{old.size - 1} then). Leave values out that it has not met, or train anew."
        )


@torch.no_grad()
def take(engine: Engine, step: Step) -> object:
    """Make it the engine's. Not while it answers; afterwards no answer holds anything of what was before. Returns that: to let go
    of its memory takes time, in which the engine may answer."""
    model, changes = model_of(engine), step.changes
    weights = model.state_dict(keep_vars=True)
    grew = grow(model, changes)
    weights = model.state_dict(keep_vars=True) if grew else weights
    for name, new in changes.rows.items():
        weights[name].data[new.rows] = new.values
    for name, whole in changes.whole.items():
        weights[name].data.copy_(whole)
    if step.run is not None and step.catalogue is not None:
        updates = engine.catalogue.updates
        updates.renumber(step.run.item_ids)
        step.catalogue.updates = updates
        engine.catalogue = step.catalogue
        engine.ranking_run = None if engine.ranking_run is None else step.run
        engine.run = step.run
        if isinstance(engine.search, MixtureSearch):
            engine.search.run = step.run
    if step.columns and isinstance(model, RankingModel):
        set_columns(model, step.columns)
    if changes.rows or changes.whole or step.columns:
        for runner in engine.runners:
            runner.renew_weights()
    before = renew_items(engine, model, changes, step.ahead, grew)
    if step.scoring is not None:
        engine.scoring = step.scoring
    engine.version = step.version.name
    return before


def grow(model: nn.Module, changes: Changes) -> bool:
    """Room for new ids, of which the changes have the vectors."""
    grew, generator = False, torch.Generator().manual_seed(0)
    for name, new in changes.rows.items():
        table = model.get_submodule(name.rpartition(".")[0])
        if isinstance(table, EmbeddingTable) and (more := new.size - len(model.get_parameter(name))) > 0:
            table.grow(more, generator)
            grew = True
    return grew


def scoring_in(engine: Engine, state: object) -> Scoring:
    found = state.get(SCORING) if isinstance(state, dict) else None
    return from_dict(Scoring, found) if found else Scoring(temperature=engine.run.temperature)
