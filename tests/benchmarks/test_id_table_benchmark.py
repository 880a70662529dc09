"""The benchmark of ids measures what it says, at a small size."""

import numpy as np
import pytest

from benchmarks import id_table, zipf_stream


def test_every_way_to_find_finds_the_same(monkeypatch):
    monkeypatch.setattr(id_table, "ASKED", 500)
    rows = id_table.finds(200, 1)
    assert {"louder", "louder, NumPy", "dict", "numpy.searchsorted"} <= {row["implementation"] for row in rows}
    assert all(row["finds_per_cpu_s"] > 0 for row in rows)


def test_a_stream_goes_through_groups_by_popularity(monkeypatch):
    monkeypatch.setattr(zipf_stream, "USERS", 300)
    monkeypatch.setattr(zipf_stream, "WINDOWS", 2)
    (first, second), (again, _) = list(zipf_stream.windows(1)), list(zipf_stream.windows(1))
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    counts = np.sort(np.bincount(first.ravel(), minlength=zipf_stream.ITEMS))[::-1]
    assert counts[:800].sum() > 0.6 * counts.sum()  # a tenth of the items has most of the events


@pytest.mark.parametrize("length", [3])
def test_what_has_no_slot_is_no_target(length):
    batch = zipf_stream.batch_of(np.array([[4, -1, 6], [7, 8, 9]]))
    assert batch.sequences.ids.tolist() == [4, -1, 6, 7, 8, 9]
    assert batch.targets.tolist() == [-1, 6, -1, 8, 9, -1]
    assert batch.sequences.offsets.tolist() == [0, length, 2 * length]
