"""One user's request, and ways to score its candidates without a cache: what M-FALCON is measured beside."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks import histories
from louder.batch import RankingBatch, SequenceBatch
from louder.models import DLRM, HSTU, DLRMConfig, HSTUConfig, RankingConfig, RankingModel, Vocabulary
from louder.models.cross import Beside
from louder.models.hstu import HSTULayer
from louder.ops.hstu_layer import hstu_layer
from louder.ops.layout import Layout
from louder.results import Row

CPU = torch.device("cpu")
ITEMS, ACTIONS, COUNTERS = 50_000, 3, 32
ITEM_COUNTERS = 1 + 2 * ACTIONS  # of them those of everybody with the item


def ranker(
    max_len: int, layers: int, width: int, heads: int, device: torch.device = CPU, *, cross_layers: int = 0
) -> RankingModel:
    """A generative ranker with random weights: HSTU, a token for each item and each action, both biases. With cross layers
    it has a head of them beside its own, which reads counters of items."""
    torch.manual_seed(0)
    head = width // heads
    sizes = HSTUConfig(layers=layers, heads=heads, width=width, qk_width=head, v_width=head, max_len=max_len)
    backbone = HSTU(sizes, Vocabulary(items=ITEMS))
    config = RankingConfig(cross_layers=cross_layers, item_counters=cross_layers > 0)
    counters = ITEM_COUNTERS if cross_layers else 0
    vocabulary = Vocabulary(items=ITEMS, actions=ACTIONS, values=1, counters=counters)
    return RankingModel(backbone, config, vocabulary).eval().to(device)


def counters_of(model: RankingModel, ids: Tensor) -> Tensor | None:
    """[m, F] some counters of each item, where the model reads any"""
    if not model.vocabulary.counters:
        return None
    table = torch.randn(ITEMS, model.vocabulary.counters, generator=torch.Generator().manual_seed(3))
    return table.to(ids.device)[ids]


def user(events: int, device: torch.device = CPU) -> SequenceBatch:
    """A history, the time of the request being the last query time."""
    draw = torch.Generator().manual_seed(0)
    actions = torch.randint(1 << ACTIONS, (events,), generator=draw)
    values = torch.randn(events, 1, generator=draw)
    return replace(histories.histories([events], items=ITEMS), actions=actions, values=values).to(device)


def candidates(count: int, device: torch.device = CPU) -> Tensor:
    return torch.randint(ITEMS, (count,), generator=torch.Generator().manual_seed(1)).to(device)


class OnePass(nn.Module):
    """The scores of candidates in one pass over the history and all of them, nothing of which is cached."""

    def __init__(self, model: RankingModel, history: SequenceBatch) -> None:
        super().__init__()
        self.model, self.history = model, history

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        model, backbone = self.model, self.model.backbone
        tokens = model.tokens(self.history)
        now = self.history.query_timestamps[-1:].expand(len(ids))
        n = len(tokens.x)
        items = model.items(ids)
        x = torch.cat([tokens.x, items])
        position = torch.arange(len(x), device=x.device).clamp(max=n)
        layout = Layout(
            torch.tensor([0, len(x)], device=x.device),
            prefix_lengths=position,
            query_times=torch.cat([tokens.layout.query_timestamps, now]),
            key_times=torch.cat([tokens.layout.timestamps, now]),
        )
        x = x * backbone.config.width**0.5 + backbone.positions(position)  # type: ignore[operator]
        for layer in backbone.layers:
            assert isinstance(layer, HSTULayer)
            config, out = layer.config, layer.out
            sizes: Row = {"heads": config.heads, "qk_width": config.qk_width, "scale": 1 / config.max_len}
            biases: Row = {"position_bias": layer.position_bias, "time_bias": layer.time_bias}
            x = hstu_layer(x, layer.uvqk.weight, out.weight, out.bias, layout, **sizes, **biases)
        return model.predict(x[n:], Beside(items, None, counters_of(model, ids)))


def impression_ranker(device: torch.device = CPU) -> DLRM:
    """The DLRM of this repository's recipes (DIN, DCN, MMoE) with counters, without attributes; random weights."""
    torch.manual_seed(0)
    return DLRM(DLRMConfig(), Vocabulary(items=ITEMS, actions=ACTIONS, values=1, counters=COUNTERS)).eval().to(device)


def impressions(history: SequenceBatch, ids: Tensor, events: int) -> RankingBatch:
    """The candidates as a DLRM takes them: for each the latest events before it, and counters."""
    count, length = len(ids), events + 1
    draw = torch.Generator().manual_seed(2)

    def rows(x: Tensor, last: Tensor) -> Tensor:
        past = x[-events:].expand(count, -1) if events else x.new_empty(count, 0)
        return torch.cat([past, last[:, None]], 1).flatten()

    now = history.query_timestamps[-1:].expand(count)
    assert history.actions is not None
    sequences = SequenceBatch(
        ids=rows(history.ids, ids),
        timestamps=rows(history.timestamps, now),
        query_timestamps=rows(history.query_timestamps, now),
        offsets=torch.arange(count + 1) * length,
        actions=rows(history.actions, torch.zeros_like(ids)),
    )
    return RankingBatch(
        sequences=sequences,
        target_positions=torch.arange(1, count + 1) * length - 1,
        labels=torch.zeros(count, ACTIONS),
        value_targets=torch.zeros(count, 1),
        counters=torch.randn(count, COUNTERS, generator=draw),
        next_items=torch.full((count * length,), -1),
        users=torch.zeros(count, dtype=torch.int64),
        rows=torch.zeros(count, dtype=torch.int64),
    ).to(ids.device)
