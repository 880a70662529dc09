"""Histories end to end: what the offsets say, and what is said about offsets that do not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from louder.batch import IGNORE_INDEX, RankingBatch, SequenceBatch
from louder.errors import InputError


def batch(lengths, **changes):
    total = sum(lengths)
    values = {
        "ids": torch.arange(total),
        "timestamps": torch.arange(total),
        "query_timestamps": torch.arange(total),
        "offsets": torch.tensor([0, *lengths]).cumsum(0),
    }
    return SequenceBatch(**(values | changes))


def test_positions_and_last_rows_of_three_users_one_of_them_empty():
    histories = batch([3, 0, 2])
    assert histories.users == 3
    assert histories.lengths.tolist() == [3, 0, 2]
    assert histories.positions().tolist() == [0, 1, 2, 0, 1]
    assert histories.last_rows().tolist() == [2, -1, 4]


@given(st.lists(st.integers(0, 5), max_size=6))
def test_positions_count_up_within_each_user(lengths):
    histories = batch(lengths)
    assert histories.positions().tolist() == [p for length in lengths for p in range(length)]
    assert histories.users == len(lengths)


def test_nobody_is_a_batch_too():
    histories = batch([])
    assert histories.users == 0
    assert histories.positions().tolist() == histories.last_rows().tolist() == []


def test_lengths_given_as_offsets_are_explained():
    with pytest.raises(InputError, match=r"offsets run from 3 to 2, but 5 ids need them to run from 0 to 5.*not the"):
        batch([3, 2], offsets=torch.tensor([3, 2]))


def test_offsets_that_fall_are_refused_with_the_user():
    with pytest.raises(InputError, match="offsets fall from 4 to 3 at user 1"):
        batch([5], offsets=torch.tensor([0, 4, 3, 5]))


@pytest.mark.parametrize(
    "offsets", [torch.tensor([], dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)], ids=str
)
def test_offsets_of_another_shape_are_refused(offsets):
    with pytest.raises(InputError, match=r"offsets must be \[B \+ 1\], but their shape is"):
        batch([2], offsets=offsets)


@pytest.mark.parametrize("field", ["timestamps", "query_timestamps", "actions", "kinds"])
def test_a_field_of_another_length_is_named(field):
    with pytest.raises(InputError, match=rf"{field} has shape \[4\], but ids has \[5\]"):
        batch([3, 2], **{field: torch.zeros(4, dtype=torch.int64)})


@given(st.lists(st.integers(-3, 8), max_size=5), st.integers(0, 6))
def test_any_offsets_are_accepted_or_refused_in_a_sentence(offsets, total):
    tensor = torch.tensor(offsets, dtype=torch.int64)
    sound = bool(offsets) and offsets[0] == 0 and offsets[-1] == total and offsets == sorted(offsets)
    if sound:
        assert batch([total], offsets=tensor).lengths.sum() == total
    else:
        with pytest.raises(InputError, match=r"^offsets .*\.$"):
            batch([total], offsets=tensor)


def test_moving_keeps_every_field():
    given_batch = batch([2, 1], actions=torch.tensor([1, 2, 3]), kinds=torch.zeros(3, dtype=torch.uint8))
    moved = given_batch.to("cpu")
    for name in "ids", "timestamps", "query_timestamps", "offsets", "actions", "kinds":
        assert torch.equal(getattr(moved, name), getattr(given_batch, name))


@pytest.mark.parametrize("rows", [1, 3])
def test_context_needs_a_row_for_each_user(rows):
    with pytest.raises(InputError, match=f"context has {rows} rows, but there are 2 users"):
        batch([3, 2], context=torch.zeros(rows, 1, dtype=torch.int64))
    assert batch([3, 2], context=torch.zeros(2, 0, dtype=torch.int64)).users == 2


def test_values_need_a_row_for_each_token():
    assert batch([2, 1], values=torch.zeros(3, 2)).values.shape == (3, 2)
    with pytest.raises(InputError, match=r"values has shape \[2, 3\], but ids has \[3\]"):
        batch([2, 1], values=torch.zeros(2, 3))


def test_prefix_lengths_are_the_positions_and_the_index_counts_on():
    histories = batch([3, 2], prefix_lengths=torch.tensor([0, 1, 1, 0, 0]))
    assert histories.positions().tolist() == [0, 1, 1, 0, 0]
    assert histories.index().tolist() == [0, 1, 2, 0, 1]


def test_all_of_a_batch_moves():
    histories = batch([2, 1], values=torch.zeros(3, 2), context=torch.zeros(2, 1), prefix_lengths=torch.arange(3))
    ranking = RankingBatch(
        sequences=histories,
        target_positions=torch.tensor([1]),
        labels=torch.zeros(1, 2),
        value_targets=torch.zeros(1, 1),
        counters=None,
        next_items=torch.full((3,), IGNORE_INDEX),
        users=torch.arange(2),
        rows=torch.tensor([5]),
    )
    moved = ranking.to("meta")
    assert moved.counters is None and moved.sequences.actions is None
    tensors = [x for part in (moved, moved.sequences) for x in vars(part).values() if isinstance(x, torch.Tensor)]
    assert len(tensors) == 6 + 7 and {x.device.type for x in tensors} == {"meta"}
