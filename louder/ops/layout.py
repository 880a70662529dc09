"""Whose rows are whose in a batch of histories, when they happened, and who sees whom: what attention needs to know
besides queries, keys and values."""

from typing import NamedTuple

import torch
from torch import Tensor

from louder.ops.jagged import indices, per_row


class Layout(NamedTuple):
    """L keys of B users end to end, and M queries, which are the last rows of their users.

        offsets         [B + 1]  int64; user b owns rows offsets[b] to offsets[b + 1] of k and v
        prefix_lengths  [L]      int64, 0 to the row's own index in its user; None is that index, plain causal attention
        query_offsets   [B + 1]  int64; user b owns rows query_offsets[b] to query_offsets[b + 1] of q: with cached keys
                                 and values only new rows are queries. None where q has all rows
        query_times     [M]      int64 seconds; when the prediction of row i is asked for. Needed with a time bias
        key_times       [L]      int64 seconds; when event j happened. Needed with a time bias
        window          a row sees the last `window` rows of its prefix; None for all of it
        global_prefix   and besides them the first `global_prefix` rows of its prefix

    Row i of a user sees key j of the same user if and only if

        j == i  or  j < prefix_lengths[i] and (j >= prefix_lengths[i] - window or j < global_prefix)

    So nobody sees the future: the first `global_prefix` rows are seen by all later ones, and see what came before
    themselves. Rows with the same prefix length see neither each other nor what lies between: items that are shown
    together, or candidates, whose prefix is the whole history (`candidate_prefix_lengths`). The distance of a row from a key
    is the difference of their prefix lengths.

    The fields are in the order of SCHEMA, so that `*layout` is what a registered op takes.
    """

    offsets: Tensor
    prefix_lengths: Tensor | None = None
    query_offsets: Tensor | None = None
    query_times: Tensor | None = None
    key_times: Tensor | None = None
    window: int | None = None
    global_prefix: int = 0


SCHEMA = (
    "Tensor offsets, Tensor? prefix_lengths, Tensor? query_offsets, Tensor? query_times, Tensor? key_times, "
    "int? window, int global_prefix"
)
Flat = Tensor | int | None  # a field of a Layout, as a registered op takes it: Layout._make(flat) puts them together


def candidate_prefix_lengths(offsets: Tensor, rows: int, candidates: Tensor) -> Tensor:
    """prefix_lengths [rows] for users whose last rows, `candidates` [B] of each, are candidates: they see the history
    before them and themselves, never each other."""
    return indices(offsets, rows).minimum(per_row(offsets.diff() - candidates, offsets, rows))


def visible(row: Tensor, prefix: Tensor, keys: int, window: int | None, global_prefix: int) -> Tensor:
    """Which of a user's first `keys` keys rows [..., M] with prefix lengths [..., M] see: [..., M, keys] bool."""
    key = torch.arange(keys, device=row.device)
    row, prefix = row[..., None], prefix[..., None]
    sees = key < prefix
    if window is not None:
        sees = sees & ((key >= prefix - window) | (key < global_prefix))
    return sees | (key == row)


def check(layout: Layout, queries: int, keys: int, device: torch.device, time_bias: Tensor | None) -> None:
    """Raise ValueError, naming the field, for a shape, dtype or device that does not fit. Reads no values."""
    by_key = {"prefix_lengths": layout.prefix_lengths, "key_times": layout.key_times}
    by_query, by_user = {"query_times": layout.query_times}, {"query_offsets": layout.query_offsets}
    for name, x in {"offsets": layout.offsets, **by_key, **by_query, **by_user}.items():
        if x is not None and x.device != device:
            raise ValueError(f"{name} is on {x.device}, but q is on {device}")
        if x is not None and (x.dtype != torch.int64 or x.dim() != 1):
            raise ValueError(f"{name} must be int64 in one dimension, but it is {x.dtype} {list(x.shape)}")
    if layout.offsets.shape[0] == 0:
        raise ValueError("offsets must have one entry more than there are users, but it is empty")
    for rows, fields in (keys, by_key), (queries, by_query), (layout.offsets.shape[0], by_user):
        for name, x in fields.items():
            if x is not None and x.shape[0] != rows:
                raise ValueError(f"{name} must have {rows} entries, but it has {x.shape[0]}")
    if time_bias is not None and (layout.query_times is None or layout.key_times is None):
        raise ValueError("time_bias needs query_times and key_times, but one of them is missing")
    if layout.window is not None and layout.window < 1:
        raise ValueError(f"window must be at least 1, or None, but it is {layout.window}")
    if layout.global_prefix < 0:
        raise ValueError(f"global_prefix must be 0 or more, but it is {layout.global_prefix}")


def check_values(layout: Layout, queries: int, keys: int) -> None:
    """Raise ValueError for offsets that do not cut q and k into users, and for prefix lengths that reach too far.

    Only on a CPU: a GPU would have to wait.
    """
    offsets, prefix_lengths = layout.offsets, layout.prefix_lengths
    query_offsets = offsets if layout.query_offsets is None else layout.query_offsets
    if offsets.device.type != "cpu":
        return
    for name, x, rows in ("offsets", offsets, keys), ("query_offsets", query_offsets, queries):
        if x[0] != 0 or x[-1] != rows or (x.diff() < 0).any():
            raise ValueError(f"{name} must rise from 0 to {rows}, the number of rows, but it is {summary(x)}")
    if (query_offsets.diff() > offsets.diff()).any():
        raise ValueError("query_offsets gives a user more queries than offsets gives keys")
    if prefix_lengths is not None and ((prefix_lengths < 0) | (prefix_lengths > indices(offsets, keys))).any():
        raise ValueError(
            f"prefix_lengths must be between 0 and a row's index in its user, but they are {summary(prefix_lengths)}"
        )


def summary(x: Tensor) -> str:
    values = x.tolist()
    return str(values if len(values) <= 8 else f"[{values[0]}, {values[1]}, ..., {values[-1]}]")
