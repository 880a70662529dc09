"""The contract between data and models: histories end to end, never padded, and what is to be predicted from them."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from louder.errors import InputError

IGNORE_INDEX = -1  # the target of a row that predicts nothing


@dataclass(frozen=True, kw_only=True)
class SequenceBatch:
    """The histories of B users, laid end to end: L tokens in all.

    ids               [L]      int64; item ids, or value ids of the auxiliary series that `kinds` names
    timestamps        [L]      int64 seconds, oldest first within a user
    query_timestamps  [L]      int64 seconds; the time at which this row's prediction is requested: that of the
                               next event. Equal to `timestamps` where it is withheld
    offsets           [B + 1]  int64; user b owns rows offsets[b] to offsets[b + 1]
    actions           [L]      int64 bitmask of what the user did, or None if the log has no actions
    kinds             [L]      uint8; 0 = engagement, k = the k-th auxiliary series; None = engagements only
    values            [L, V]   float32, such as watch time, NaN where absent; None = none
    prefix_lengths    [L]      int64; a token sees the first so many tokens of its user, and itself: those before its
                               request. None = all before it
    context           [B, C]   int64 codes of the users' attributes, 0 = unknown; None = none

    Raises InputError if the fields do not fit together. It is checked here, once, so that no kernel has to.
    """

    ids: Tensor
    timestamps: Tensor
    query_timestamps: Tensor
    offsets: Tensor
    actions: Tensor | None = None
    kinds: Tensor | None = None
    values: Tensor | None = None
    prefix_lengths: Tensor | None = None
    context: Tensor | None = None

    def __post_init__(self) -> None:
        if self.offsets.dim() != 1 or self.offsets.shape[0] == 0:
            raise InputError(f"offsets must be [B + 1], but their shape is {list(self.offsets.shape)}.")
        for field in "timestamps", "query_timestamps", "actions", "kinds", "values", "prefix_lengths":
            value = getattr(self, field)
            if value is not None and value.shape[: 1 if field == "values" else None] != self.ids.shape:
                raise InputError(f"{field} has shape {list(value.shape)}, but ids has {list(self.ids.shape)}.")
        if self.context is not None and len(self.context) != self.users:
            raise InputError(f"context has {len(self.context)} rows, but there are {self.users} users.")
        if self.offsets.device.type != "cpu":  # reading values would stall the GPU; they were checked before the copy
            return
        offsets, tokens = self.offsets.tolist(), self.ids.shape[0]
        if (offsets[0], offsets[-1]) != (0, tokens):
            raise InputError(
                f"offsets run from {offsets[0]} to {offsets[-1]}, but {tokens} ids need them to run from 0 to {tokens}. "
                "For two users with 3 and 2 events, pass [0, 3, 5], not the lengths [3, 2]."
            )
        for user, (first, end) in enumerate(pairwise(offsets)):
            if end < first:
                raise InputError(f"offsets fall from {first} to {end} at user {user}.")

    @property
    def users(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> Tensor:
        """[B]"""
        return self.offsets.diff()

    def positions(self) -> Tensor:
        """[L] of each token in its history, 0 = the oldest one kept; items of one request share that of its first"""
        return self.index() if self.prefix_lengths is None else self.prefix_lengths

    def index(self) -> Tensor:
        """[L] index of each token in its history, whatever its request"""
        index = torch.arange(len(self.ids), device=self.ids.device)
        return index - self.offsets[:-1].repeat_interleave(self.lengths, output_size=len(self.ids))

    def last_rows(self) -> Tensor:
        """[B] row of each user's latest token; -1 for a user without tokens"""
        return torch.where(self.lengths > 0, self.offsets[1:] - 1, -1)

    def to(self, device: torch.device | str) -> "SequenceBatch":
        moved = {name: x.to(device, non_blocking=True) for name, x in vars(self).items() if x is not None}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class RetrievalBatch:
    """Histories, and the item that each of their L tokens is to predict.

    sequences  the B histories
    targets    [L] int64 item id, or IGNORE_INDEX where nothing is to be predicted
    users      [B] int64
    rows       [B] int64, row of each user's latest target in the table: where the user's whole history ends
    """

    sequences: SequenceBatch
    targets: Tensor
    users: Tensor
    rows: Tensor


@dataclass(frozen=True, kw_only=True)
class RankingBatch:
    """Histories, and M of their L events to predict: "what did the user do with this one?"

    sequences         the B histories, with actions and values; those of a predicted row's request must not be read
    target_positions  [M] int64 rows of the sequences that are predicted, ascending
    labels            [M, A] float32, 1 where the action happened
    value_targets     [M, V] float32 values to predict, NaN where absent
    counters          [M, F] float32 counts of what happened before the request; None where no model reads them
    next_items        [L] int64 first item of the request that begins after the row, or IGNORE_INDEX
    users             [B] int64
    rows              [M] int64 rows of the table that are predicted
    next_items_by     [Q, L] int64 likewise, of each of Q actions the next item that it happens with; None where no model
                      asks for them
    """

    sequences: SequenceBatch
    target_positions: Tensor
    labels: Tensor
    value_targets: Tensor
    counters: Tensor | None
    next_items: Tensor
    users: Tensor
    rows: Tensor
    next_items_by: Tensor | None = None

    def to(self, device: torch.device | str) -> "RankingBatch":
        moved = {name: x.to(device) for name, x in vars(self).items() if x is not None}
        return replace(self, **moved)
