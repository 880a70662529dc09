import pytest
import torch

from louder.ops.softmax_attention import attention_bias, softmax_attention

LENGTHS = [5], [3, 0, 2], [1, 63, 7, 130, 0, 20], [0, 0]


def one_user_at_a_time(q, k, v, offsets, scale, position_bias=None, time_bias=None, query_times=None, key_times=None):
    out = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        rows, n = slice(start, end), end - start
        times = (query_times[rows], key_times[rows]) if query_times is not None else (torch.zeros(n), torch.zeros(n))
        scores = torch.einsum("nhk,mhk->hnm", q[rows], k[rows]) * scale
        scores = scores + attention_bias(n, position_bias, time_bias, *times)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
        out.append(torch.einsum("hnm,mhv->nhv", scores.softmax(-1), v[rows]))
    return torch.cat(out)


def example(lengths, heads=2):
    torch.manual_seed(0)
    total = sum(lengths)
    q, k, v = (torch.randn(total, heads, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return q, k, v, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_one_user_at_a_time(lengths, with_bias):
    q, k, v, offsets = example(lengths)
    leaves = [q, k, v]
    bias = {}
    if with_bias:
        tables = [torch.randn(rows, dtype=torch.float64, requires_grad=True) for rows in (40, 60)]
        times = torch.randint(0, 10**6, (len(q),))
        bias = dict(position_bias=tables[0], time_bias=tables[1], query_times=times + 5, key_times=times)
        leaves += tables
    out = softmax_attention(q, k, v, offsets, scale=0.3, **bias)
    expected = one_user_at_a_time(q, k, v, offsets, 0.3, **bias)
    torch.testing.assert_close(out, expected)
    if not len(q):
        return
    weight = torch.randn_like(expected)
    found = torch.autograd.grad(out, leaves, weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, weight))


def test_dropout_keeps_the_mean_and_the_future_hidden():
    q, k, v, offsets = example([6, 40])
    ones = torch.ones_like(v)
    mean = (
        torch.stack([softmax_attention(q, k, ones, offsets, scale=0.3, dropout=0.2) for _ in range(300)])
        .detach()
        .mean()
    )
    assert abs(float(mean) - 1) < 0.02
    first = softmax_attention(q, k, v, offsets, scale=0.3, dropout=0.2)[0].detach()
    kept = torch.isclose(first, v[0] / 0.8, rtol=1e-4) | (first == 0)  # the first event sees itself alone
    assert bool(kept.all())
