"""A few users, what they did, and what the model would have shown them just before their held-out event."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from louder.data.retrieval import RetrievalLoader
from louder.data.table import Table
from louder.evaluation.retrieval import rank_of, seen_items
from louder.ids import RawId
from louder.inference.catalogue import Catalogue
from louder.inference.run import Run
from louder.schema import ENGAGEMENT
from louder.training import retrieval
from louder.training.config import Config


@dataclass(frozen=True)
class Line:
    """An item, with what is known of it. `time` is None where the log has no clock or nothing has happened yet."""

    item: RawId
    title: str = ""
    genres: str = ""
    time: int | None = None
    actions: tuple[str, ...] = ()
    score: float | None = None
    held_out: bool = False

    @property
    def name(self) -> str:
        return self.title or str(self.item)


@dataclass(frozen=True)
class Sample:
    """events is the length of the whole history, of which `history` has the latest; `rank` of the held-out item is
    the one that the metrics are made of (a half where scores tie), None where it was left out of the ranking."""

    user: RawId
    events: int
    history: list[Line]
    held_out: Line
    rank: float | None
    items: int
    recommended: list[Line]


@torch.no_grad()
def draw(run: Path, config: Config, table: Table, *, users: int = 5, k: int = 10, latest: int = 8) -> list[Sample]:
    """Users of the test part, drawn by the run's seed and not chosen by how well they came out.

    The items are scored and left out as in the evaluation. Raises InputError if the table is not the run's.
    """
    opened = Run.open(run)
    opened.require_table(table.path)
    loader = retrieval.part_loader(table, config, "test")
    drawn = np.random.default_rng(config.training.seed).permutation(len(loader.spans.users))[:users]
    batch = loader.batch(drawn, 0, 0)
    model, catalogue = opened.sequential(), Catalogue(opened, table.path)
    queries = model.queries(batch.sequences, batch.users)
    scores = model.scores(queries, model.catalogue()).float()
    targets = torch.from_numpy(table.ids[batch.rows.numpy()])
    of_target = scores.gather(1, targets[:, None])
    seen, lengths = seen_items(table, batch, config.evaluation.seen)
    scores[torch.from_numpy(np.repeat(np.arange(len(drawn)), lengths)), torch.from_numpy(seen)] = -torch.inf
    ranks = rank_of(scores, of_target, targets)
    samples = []
    for number, span in enumerate(drawn):
        rows = engagements(loader, span)
        target = int(batch.rows[number])
        best = scores[number].topk(min(k, int((scores[number] > -torch.inf).sum())))
        recommended = [
            replace(item_line(catalogue, item), score=score, held_out=item == int(targets[number]))
            for item, score in zip(best.indices.tolist(), best.values.tolist())
        ]
        left_out = scores[number, targets[number]] == -torch.inf
        samples.append(
            Sample(
                user=table.user_ids.raws([int(batch.users[number])])[0],
                events=len(rows),
                history=[event_line(catalogue, table, row) for row in rows[-latest:]],
                held_out=event_line(catalogue, table, target),
                rank=None if left_out else float(ranks[number]),
                items=table.items,
                recommended=recommended,
            )
        )
    return samples


def engagements(loader: RetrievalLoader, span: int) -> Sequence[int]:
    """Rows of the history of a span, without entries of auxiliary series."""
    rows = np.arange(loader.spans.starts[span], loader.spans.lasts[span])
    return rows[loader.table.kinds[rows] == ENGAGEMENT].tolist()


def event_line(catalogue: Catalogue, table: Table, row: int) -> Line:
    bits = int(table.actions[row]) if table.actions is not None else 0
    return replace(
        item_line(catalogue, int(table.ids[row])),
        time=int(table.times[row]) if table.manifest.has_times else None,
        actions=tuple(name for bit, name in enumerate(table.manifest.actions) if bits >> bit & 1),
    )


def item_line(catalogue: Catalogue, item: int) -> Line:
    raw, title = catalogue.describe(item)
    return Line(raw, title, catalogue.text(item, "genres"))
