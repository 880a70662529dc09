"""What HSTU, SASRec and the Transformer share: tokens in, one vector a token out, compared with item vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.config import require_at_least, require_fraction
from louder.errors import InputError
from louder.models.embeddings import EmbeddingTable, EventEmbedding, Vocabulary
from louder.models.kv_cache import AnyKVCache, BatchedKVCache, Branch, NewTokens
from louder.models.mol import MoL
from louder.ops.layout import Layout, visible

NORM_EPS = 1e-6


class BranchFunction(Protocol):
    """See SequentialModel.branch."""

    def __call__(self, x_MD: Tensor, branches: Sequence[Branch], *, keep: bool = False) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """The settings that every sequential model has. The defaults are the official ML-1M settings."""

    kind: str
    layers: int = 2
    heads: int = 1
    width: int = 50  # of the residual stream, and of the item vectors
    max_len: int = 211  # longest history; rows of the position tables, where there are some
    dropout: float = 0.2  # of the input
    normalised: bool = True  # L2-normalise states and item vectors

    def __post_init__(self) -> None:
        require_at_least(1, "model", self, "layers", "heads", "width", "max_len")
        require_fraction("model", self, "dropout")


@dataclass(frozen=True, kw_only=True)
class WindowedConfig(SequentialConfig):
    """The settings of a model whose events need not see all before them: see louder.ops.layout."""

    window: int | None = None  # a token sees so many before it; None for all
    global_prefix: int = 0  # and so many of the user's first ones besides

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "window")
        require_at_least(0, "model", self, "global_prefix")
        if self.global_prefix and self.window is None:
            raise InputError(
                f"model.global_prefix is {self.global_prefix}, but without a window every event sees all before it. "
                "Pass --set model.window=256, or leave model.global_prefix out."
            )


class DotProduct(nn.Module):
    """A query is a state, and an item its vector. MoL (mol.py) is the other similarity."""

    def queries(self, states: Tensor, users: Tensor | None = None) -> Tensor:
        return states

    def items(self, vectors: Tensor) -> Tensor:
        return vectors

    def scores(self, queries: Tensor, items: Tensor) -> Tensor:
        return queries @ items.T


class SequentialModel(nn.Module):
    """Base of the sequential models. A child defines its layers, and what comes before and after them.

        forward(batch)  -> [L, D] a state for each token
        transduce(x [L, D], batch)  -> [L, D] the layers, for tokens that are vectors already; of the batch it reads
                           offsets, times and prefix_lengths only
        item_vectors()  -> [I, D]; item_vectors(ids [U]) -> [U, D], which reads no other row

    Both are L2-normalised if the config says so; then a dot product is a cosine. To recommend:

        scores(queries(batch, users [B]), catalogue())  -> [B, I] how well each item follows each history

    by the model's `similarity`, which is a dot product unless `build` was given another.
    """

    similarity: "DotProduct | MoL"
    layers: nn.ModuleList
    keeps_kv = False  # whether it can `extend` cached tokens

    def __init__(self, config: SequentialConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.events = EventEmbedding(vocabulary, config.width)
        self.similarity = DotProduct()

    def enter(self, x_LD: Tensor, batch: SequenceBatch) -> tuple[Tensor, ...]:
        """What goes into the first layer, [L, D], and what all layers are given besides the batch."""
        raise NotImplementedError

    def leave(self, x_LD: Tensor) -> Tensor:
        """What comes out of the last layer -> the states"""
        return x_LD

    def transduce(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        x_LD, *shared = self.enter(x_LD, batch)
        for layer in self.layers:
            x_LD = layer(x_LD, batch, *shared)
        return self.leave(x_LD)

    def attention_sizes(self, x_LD: Tensor, batch: SequenceBatch, row: int) -> Tensor:
        """[row + 1] of one user's tokens x: how much one of them attends to each up to itself, as the size of the weights
        summed over layers and heads."""
        x_LD, *shared = self.enter(x_LD, batch)
        total = x_LD.new_zeros(row + 1)
        for layer in self.layers:
            total += layer.attention_weights(x_LD, batch, row, *shared).abs().sum(0)  # type: ignore[operator]
            x_LD = layer(x_LD, batch, *shared)
        return total

    def extend(self, x_MD: Tensor, new: NewTokens, cache: AnyKVCache) -> Tensor:
        """`transduce` for M tokens that follow the cached ones -> [M, D], with their keys and values appended to the
        cache. Dropout is off, whatever the mode."""
        raise NotImplementedError

    def branch(self, x_MD: Tensor, branches: Sequence[Branch], *, keep: bool = False) -> Tensor:
        """`extend` for the rows of some branches, end to end -> [M, D]. Nothing is left in their caches. With `keep` each
        has one row, whose keys and values are: they do not count in the cache's length, so the caller counts them."""
        caches, new = [], []
        for cache, seen, rows, time, query_time in branches:
            held = cache.scratch(seen, 0 if keep else rows)
            if keep:
                cache.note(seen, seen + 1, time, seen)
            times, query_times = (torch.full((rows,), when, device=x_MD.device) for when in (time, query_time))
            new.append(held.allocate(times, query_times, None, candidates=rows))
            caches.append(held)
        together = BatchedKVCache(caches, new)
        states = self.extend(x_MD, together.new, together)
        if keep:
            for held, (cache, *_) in zip(caches, branches):
                cache.keys, cache.values = held.keys, held.values
        return states

    def ready(self) -> BranchFunction:
        """`branch` by the best means there are, for weights that stay as they are now."""
        return self.branch

    def tables(self) -> list[EmbeddingTable]:
        """The large tables, whose gradients can be sparse."""
        return self.events.tables()

    @property
    def sparse_items(self) -> bool:
        """Whether a loss should ask for the items that it uses, rather than for all."""
        return self.events.items.sparse_gradients

    def forward(self, batch: SequenceBatch) -> Tensor:
        return self.normalise(self.transduce(self.events(batch), batch))

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[I, D] of the catalogue, or of the ids"""
        return self.normalise(self.events.items.vectors() if ids is None else self.events.items(ids))

    def queries(self, batch: SequenceBatch, users: Tensor | None = None) -> Tensor:
        """[B, Q] what is compared with the catalogue, at each history's latest token"""
        return self.similarity.queries(self(batch)[batch.last_rows()], users)

    def catalogue(self) -> Tensor:
        """[I, X]"""
        return self.similarity.items(self.item_vectors())

    def scores(self, queries: Tensor, catalogue: Tensor) -> Tensor:
        """[B, I] of every pair"""
        return self.similarity.scores(queries, catalogue)

    def normalise(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1, eps=NORM_EPS) if self.config.normalised else x


def layout_of(batch: SequenceBatch, config: WindowedConfig) -> Layout:
    """Who sees whom among the tokens of a batch, for a model with a window."""
    return Layout(
        batch.offsets,
        prefix_lengths=batch.prefix_lengths,
        query_times=batch.query_timestamps,
        key_times=batch.timestamps,
        window=config.window,
        global_prefix=config.global_prefix,
    )


def seen_by(batch: SequenceBatch, row: int, config: WindowedConfig) -> Tensor:
    """[row + 1] bool: which of one user's tokens up to it a token sees"""
    at = torch.tensor(row, device=batch.ids.device)
    return visible(at, batch.positions()[row], row + 1, config.window, config.global_prefix)
