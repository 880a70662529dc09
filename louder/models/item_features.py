"""What is known of items besides their ids, as vectors: categories, and vectors of texts or images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.data.attributes import Attribute, Column, Vectors
from louder.models.embeddings import draw


class CategoryTable(nn.EmbeddingBag):
    """A category of items as vectors: a row for each of its values; of a list the mean. See AttributeEmbedding."""

    def __init__(self, attribute: Attribute, width: int) -> None:
        super().__init__(attribute.size, width, mode="mean")
        # with a last, empty row for unknown items; read again from the items' file, so not part of a checkpoint
        ends = torch.cat([attribute.offsets, attribute.offsets[-1:]])
        self.item_codes: Tensor
        self.item_offsets: Tensor
        self.register_buffer("item_codes", attribute.codes, persistent=False)
        self.register_buffer("item_offsets", ends, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
        offsets = self.item_offsets
        rows = torch.where(ids >= 0, ids, len(offsets) - 2)
        starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
        own = lengths.cumsum(0) - lengths
        at = torch.arange(int(lengths.sum()), device=ids.device) + (starts - own).repeat_interleave(lengths)
        return super().forward(self.item_codes[at], own)

    def of(self, attribute: Attribute) -> Tensor:
        return super().forward(attribute.codes, attribute.offsets[:-1])


class VectorMap(nn.Linear):
    """A vector of items (of a text, an image), made as long as all others and mapped to the model's width; zeros where
    an item has none. See AttributeEmbedding."""

    def __init__(self, vectors: Vectors, width: int) -> None:
        super().__init__(vectors.matrix.shape[1], width, bias=False)
        self.item_matrix: Tensor
        self.register_buffer("item_matrix", vectors.matrix, persistent=False)  # as the codes above

    def forward(self, ids: Tensor) -> Tensor:
        return self.mapped(self.item_matrix[ids.clamp(min=0)] * (ids >= 0)[:, None])

    def of(self, vectors: Vectors) -> Tensor:
        return self.mapped(vectors.matrix)

    def mapped(self, rows: Tensor) -> Tensor:
        return super().forward(F.normalize(rows, dim=1).to(self.weight.dtype))


class AttributeEmbedding(nn.Module):
    """What is known of items besides their ids, as vectors: of categories and of vectors, in the order of `columns`.

    forward(ids [L])  -> for each column [L, D]; zeros where an id is below 0, which stands for an unknown item
    of(columns)       -> for each column [R, D]: the same columns, of other items
    """

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.tables = nn.ModuleList(
            CategoryTable(column, width) if isinstance(column, Attribute) else VectorMap(column, width)
            for column in columns
        )
        for parameter in self.parameters():
            draw(parameter)

    def forward(self, ids: Tensor) -> list[Tensor]:
        return [table(ids) for table in self.tables]

    def of(self, columns: Sequence[Column]) -> list[Tensor]:
        return [table.of(column) for table, column in zip(self.tables, columns, strict=True)]  # type: ignore[operator]
