import numpy as np
import pytest

from benchmarks import histories


def test_uniform_histories_fill_the_tokens_and_are_at_least_one():
    assert histories.uniform(200, 1000) == [200] * 5
    assert histories.uniform(200, 100) == [200]


@pytest.mark.parametrize("max_len", [200, 1024, 8192])
def test_zipf_has_one_of_the_longest_and_a_third_of_the_padded_tokens(max_len):
    lengths = histories.zipf(max_len, 20 * max_len)
    assert max(lengths) == max_len
    assert sum(lengths) >= 20 * max_len
    assert sum(lengths) / (len(lengths) * max_len) == pytest.approx(0.34, abs=0.06)
    assert lengths == histories.zipf(max_len, 20 * max_len)
    assert sorted(histories.zipf(max_len, 1)) == sorted(max_len // rank for rank in (1, 2, 3, 4))


def test_ml1m_lengths_have_its_median_and_mean():
    lengths = histories.ml1m(10_000)
    assert (min(lengths), max(lengths)) == (20, 200)
    assert np.median(lengths) == pytest.approx(96, abs=4)
    assert np.mean(lengths) == pytest.approx(110, abs=3)


@pytest.mark.parametrize(("max_len", "sparsity"), [(1024, 0.031), (2048, 0.066), (4096, 0.291), (8192, 0.641)])
def test_a_month_is_as_sparse_as_the_paper_says(max_len, sparsity):
    assert 1 - np.mean(histories.month(max_len, 1000)) / max_len == pytest.approx(sparsity, abs=0.005)
    few = histories.month(max_len, 8)
    assert 1 - np.mean(few) / max_len == pytest.approx(sparsity, abs=0.04)
    assert 1 <= min(few) <= max(few) <= max_len


@pytest.mark.parametrize(("alpha", "sparsity"), [(1.6, 0.805), (1.7, 0.698), (1.8, 0.541), (1.9, 0.363), (2.0, 0.291)])
def test_stochastic_length_makes_them_about_as_sparse_as_the_paper_says(alpha, sparsity):
    shortened = histories.shortened(histories.month(4096, 2000), 4096, alpha)
    assert 1 - np.mean(shortened) / 4096 == pytest.approx(sparsity, abs=0.045)


def test_events_are_in_order_and_share_seconds():
    batch = histories.histories([30_000, 5], items=10, same_second=0.8)
    gaps = batch.timestamps[:30_000].diff()
    assert gaps.min() >= 0
    assert float((gaps == 0).double().mean()) == pytest.approx(0.8, abs=0.05)
    assert batch.query_timestamps[:-1].equal(batch.timestamps[1:])
    assert batch.ids.min() >= 0 and batch.ids.max() < 10
    assert batch.offsets.tolist() == [0, 30_000, 30_005]
