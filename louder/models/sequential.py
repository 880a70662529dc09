"""What HSTU, SASRec and the Transformer share: tokens in, one vector a token out, compared with item vectors."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.models.embeddings import EmbeddingTable, EventEmbedding, Vocabulary
from louder.models.kv_cache import KeysAndValues, NewTokens
from louder.models.mol import MoL

NORM_EPS = 1e-6


class SequentialConfig(Protocol):
    """The settings that every sequential model has."""

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
            f"No keys and values are kept for a {self.config.kind}, so it cannot be served. Serve an HSTU or a Transformer."  # type: ignore[attr-defined]
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
