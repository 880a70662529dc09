"""The items of a stream that come and go: their slots, and all that has a row for each slot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from louder.checkpoint import Tensors
from louder.errors import InputError
from louder.ids import IdMap
from louder.inference.run import Run
from louder.models import AnyRanker, SequentialModel, Vocabulary
from louder.models.embeddings import DynamicTable, make_dynamic
from louder.online.config import StreamConfig
from louder.online.slots import Slots
from louder.online.window import Window
from louder.ops.id_table import Changes, IdSettings
from louder.results import Row
from louder.training import tables
from louder.training.config import Config

PREFIX = "stream.items."  # of what a checkpoint keeps, beside the moments
SEGMENT = 1 << 12


class Items:
    """Of a run whose model is made dynamic here. `ids` is the vocabulary as it is now.

    slots  None before the first window: the items of the run are as old as that
    """

    def __init__(self, run: Run, model: SequentialModel | AnyRanker, settings: StreamConfig, saved: Tensors) -> None:
        self.ids, self.settings = run.item_ids, id_settings(settings, len(run.item_ids))
        own = {name.removeprefix(PREFIX): x for name, x in saved.items() if name.startswith(PREFIX)}
        if not own and not self.ids.there.all():
            raise InputError(
                f"Some numbers of {run.path} are no item's, but it does not have the slots of the others. Go on from the "
                "folder of its stream."
            )
        self.slots = Slots.from_state(self.settings, self.ids.raw.type, own) if own else None
        self.came = self.left = 0  # in the latest window
        make_dynamic(model)

    def follow(
        self, window: Window, model: SequentialModel | AnyRanker, optimizers: Sequence[Optimizer]
    ) -> Changes | None:
        """Count what happened in a window, then let go and admit: the model and its optimizers follow. None where all stays
        as it is."""
        events = [event for own in window.users.values() for event in own.events]
        self.came = self.left = 0
        if not events:
            return None
        times = np.array([event.time for event in events], dtype=np.int64)
        if self.slots is None:
            self.slots = Slots.of(self.ids, self.settings, now=int(times.min()))
        self.slots.observe([event.item for event in events], times)
        changes = self.slots.update(int(times.max()))
        self.came, self.left = len(changes.admitted.slots), len(changes.evicted.slots)
        if not self.came and not self.left:
            return None
        generator = torch.Generator(next(model.parameters()).device).manual_seed(int(times.max()))
        tables.follow(model.tables()[0], changes, optimizers, generator)
        self.ids = self.slots.id_map()
        return changes

    def catalogue(self) -> Tensor | None:
        """[A] slots of those that can be recommended; None for all"""
        if self.slots is None or len(self.slots.table) == len(self.ids):
            return None
        return self.slots.table.catalogue()

    def free(self) -> Tensor | None:
        """[C] bool, slots that nobody has; None where there are none"""
        return None if self.ids.there.all() else torch.from_numpy(~self.ids.there)

    def counts(self) -> Row:
        """Of the row of a window."""
        there = int(self.ids.there.sum())
        waiting = 0 if self.slots is None else self.slots.table.waiting.used
        return {"items": {"there": there, "came": self.came, "left": self.left, "counted": waiting}}

    def tensors(self) -> Tensors:
        return {} if self.slots is None else {PREFIX + name: x for name, x in self.slots.state().items()}

    def write(self, folder: Path, began: Path) -> None:
        """The vocabulary and the attributes of items by slot, in place of those that a checkpoint shares with `began`, the
        folder of the ids that the stream began with."""
        replaced(folder / "vocabulary" / "item.parquet", pa.table({"raw": self.ids.raw}))
        if (began / "items.parquet").is_file():
            first = IdMap.read(began / "vocabulary" / "item.parquet").ids(self.ids.raw)
            rows = pa.array(first, mask=first < 0)
            replaced(folder / "items.parquet", pq.read_table(began / "items.parquet").take(rows))


def fitted(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights of an earlier version for a model that has more slots by now: of those the version knows what it knows of new
    items. It may be one from before items came and went."""
    found = dict(weights)
    for name, table in model.named_modules():
        if isinstance(table, DynamicTable) and (rows := found.get(f"{name}.weight")) is not None:
            new = found.setdefault(f"{name}.new", rows.mean(0, keepdim=True))
            found[f"{name}.weight"] = torch.cat([rows, new.expand(table.size - len(rows), -1)])
    return found


def replaced(file: Path, table: pa.Table) -> None:
    file.unlink(missing_ok=True)  # a link to what others have
    pq.write_table(table, file, compression="zstd")


def id_settings(settings: StreamConfig, items: int) -> IdSettings:
    """Raises InputError where the items that there are don't fit."""
    if settings.item_budget < items:
        raise InputError(
            f"stream.item_budget is {settings.item_budget:,}, but the run has {items:,} items: "
            f"--set stream.item_budget={2 * items}."
        )
    return IdSettings(
        budget=settings.item_budget,
        segment=SEGMENT,
        admit_at=settings.item_admit_at,
        half_life_s=settings.item_half_life_s,
        evict=settings.item_evict,
        max_age_s=settings.item_max_age_s,
    )


def require_items(settings: StreamConfig, config: Config, vocabulary: Vocabulary) -> None:
    """Raises InputError for what does not go with items that come and go, and for a run whose items do, in a stream whose items
    stay."""
    if not settings.item_budget:
        if vocabulary.dynamic:
            raise InputError(
                "The items of this run come and go, so say how many there may be: "
                f"--set stream.item_budget={2 * vocabulary.items}."
            )
        return
    id_settings(settings, vocabulary.items)
    if config.ranking is not None and (config.ranking.item_attributes or config.ranking.item_vectors):
        raise InputError(
            "stream.item_budget lets items come and go, but this model reads attributes of items, which the log does not "
            "have. Leave stream.item_budget out, or stream a model without ranking.item_attributes."
        )
    if config.training.ema_decay is not None:
        raise InputError(
            "stream.item_budget lets items come and go, whose weights have no average: --set training.ema_decay=null."
        )
