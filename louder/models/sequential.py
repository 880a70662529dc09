"""What HSTU, SASRec and the Transformer share: tokens in, one vector a token out, compared with item vectors."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.config import require_at_least
from louder.errors import InputError
from louder.models.embeddings import EmbeddingTable, EventEmbedding, Vocabulary
from louder.models.kv_cache import KeysAndValues, NewTokens
from louder.models.mol import MoL
from louder.ops.layout import Layout

NORM_EPS = 1e-6


class SequentialConfig(Protocol):
    """The settings that every sequential model has."""

    @property
    def kind(self) -> str: ...
    @property
    def layers(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def max_len(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def normalised(self) -> bool: ...


class WindowedConfig(Protocol):
    """The settings of a model whose events need not see all before them: see louder.ops.layout."""

    @property
    def window(self) -> int | None: ...
    @property
    def global_prefix(self) -> int: ...


class DotProduct(nn.Module):
    """The similarity of two vectors. A query is a state, and an item its vector. MoL (mol.py) is the other one."""

    def queries(self, states: Tensor, users: Tensor | None = None) -> Tensor:
        return states

    def items(self, vectors: Tensor) -> Tensor:
        return vectors

    def scores(self, queries: Tensor, items: Tensor) -> Tensor:
        return queries @ items.T


class SequentialModel(nn.Module):
    """Base of the sequential models. A child defines `transduce`.

        forward(batch)  -> [L, D] a state for each token
        transduce(x [L, D], batch)  -> [L, D] the layers, for tokens that are vectors already; of the batch it reads
                           offsets, times and prefix_lengths only
        item_vectors()  -> [I, D]; item_vectors(ids [U]) -> [U, D], which reads no other row

    Both are L2-normalised if the config says so; then a dot product is a cosine. To recommend:

        scores(queries(batch, users [B]), catalogue())  -> [B, I] how well each item follows each history

    by the model's `similarity`, which is a dot product unless `build` was given another.
    """

    similarity: "DotProduct | MoL"
    keeps_kv = False  # whether it can `extend` cached tokens

    def __init__(self, config: SequentialConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.events = EventEmbedding(vocabulary, config.width)
        self.similarity = DotProduct()

    def transduce(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        raise NotImplementedError

    def extend(self, x_MD: Tensor, new: NewTokens, memory: KeysAndValues) -> Tensor:
        """`transduce` for M tokens that follow those in memory -> [M, D], with their keys and values put
        there. Dropout is off, whatever the mode."""
        raise InputError(
            f"No keys and values are kept for a {self.config.kind}, so it cannot be served. Serve an HSTU or a Transformer."
        )

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
        return self.normalise(self.events.items.vectors() if ids is None else self.events.items(ids))

    def queries(self, batch: SequenceBatch, users: Tensor | None = None) -> Tensor:
        """[B, Q] what is compared with the catalogue, at each history's latest token"""
        return self.similarity.queries(self(batch)[batch.last_rows()], users)

    def catalogue(self) -> Tensor:
        """[I, X]"""
        return self.similarity.items(self.item_vectors())

    def scores(self, queries: Tensor, catalogue: Tensor) -> Tensor:
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


def require_window(config: WindowedConfig) -> None:
    """Raise InputError for a window or a global prefix that says nothing."""
    if config.window is not None:
        require_at_least(1, "model", config, "window")
    require_at_least(0, "model", config, "global_prefix")
    if config.global_prefix and config.window is None:
        raise InputError(
            f"model.global_prefix is {config.global_prefix}, but without a window every event sees all before it. "
            "Pass --set model.window=256, or leave model.global_prefix out."
        )
