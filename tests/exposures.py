"""Small batches in impression form: the history before an exposure, and the exposure."""

import numpy as np
import torch

from louder.batch import RankingBatch, SequenceBatch
from louder.data.attributes import Attribute, Vectors
from louder.models import Vocabulary

VOCABULARY = Vocabulary(items=9, actions=3, series=(4, 2), users=6, values=2, context=(3, 5), counters=7)


def attribute(name, lists, size):
    """An attribute whose row r has the codes lists[r]."""
    offsets = np.cumsum([0, *map(len, lists)])
    codes = torch.tensor([code for codes in lists for code in codes], dtype=torch.int64)
    labels = ("", *(str(code) for code in range(1, size)))
    return Attribute(name, size, codes, torch.from_numpy(offsets), labels)


ATTRIBUTES = [
    attribute("author", [[i % 3] for i in range(9)], size=3),
    attribute("tags", [[1 + i % 3] * (i % 2) + [2] * (i % 3) for i in range(9)], size=5),
    Vectors("text", torch.tensor([[1.0 + i, -3 * (i % 2), i % 4] if i else [0.0] * 3 for i in range(9)])),
]


def exposure(length, seed=0, vocabulary=VOCABULARY):
    """The fields of one exposure after `length` tokens; of the arrays by token the last is the exposure's."""
    random = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(max(high, 1), shape, generator=random)

    series = len(vocabulary.series)
    kinds = draw(series + 3, length + 1)
    kinds = torch.where(kinds <= series, kinds, 0)
    kinds[-1] = 0
    sizes = torch.tensor([vocabulary.items, *vocabulary.series])[kinds]
    return {
        "ids": draw(10**6, length + 1) % sizes,
        "timestamps": draw(10**7, length + 1).sort().values,
        "actions": torch.where(kinds == 0, draw(1 << vocabulary.actions, length + 1), 0),
        "kinds": kinds.to(torch.uint8),
        "values": torch.rand(length + 1, vocabulary.values, generator=random),
        "context": torch.tensor([int(draw(size, 1)) for size in vocabulary.context], dtype=torch.int64),
        "counters": torch.randn(vocabulary.counters, generator=random),
        "user": int(draw(vocabulary.users, 1)),
        "labels": draw(2, vocabulary.actions).float(),
        "value_targets": torch.randn(vocabulary.values, generator=random),
    }


def batch_of(*exposures, vocabulary=VOCABULARY):
    def joined(name, empty):
        return torch.cat([x[name] for x in exposures]) if exposures else empty

    def stacked(name, width, dtype=torch.float32):
        return torch.stack([x[name] for x in exposures]) if exposures else torch.empty(0, width, dtype=dtype)

    nothing = torch.empty(0, dtype=torch.int64)
    offsets = torch.tensor([0, *(len(x["ids"]) for x in exposures)]).cumsum(0)
    times = joined("timestamps", nothing)
    sequences = SequenceBatch(
        ids=joined("ids", nothing),
        timestamps=times,
        query_timestamps=times,
        offsets=offsets,
        actions=joined("actions", nothing),
        kinds=joined("kinds", nothing.to(torch.uint8)) if vocabulary.series else None,
        values=joined("values", torch.empty(0, vocabulary.values)),
        context=stacked("context", len(vocabulary.context), torch.int64) if vocabulary.context else None,
    )
    return RankingBatch(
        sequences=sequences,
        target_positions=offsets[1:] - 1,
        labels=stacked("labels", vocabulary.actions),
        value_targets=stacked("value_targets", vocabulary.values),
        counters=stacked("counters", vocabulary.counters) if vocabulary.counters else None,
        next_items=torch.full_like(times, -1),
        users=torch.tensor([x["user"] for x in exposures], dtype=torch.int64),
        rows=torch.arange(len(exposures)),
    )
