"""Row-wise optimizers against the equations written out, row by row and number by number."""

import math

import pytest
import torch
from torch.optim import SGD, Adagrad, AdamW

from louder.training.rowwise import RowwiseAdagrad, RowwiseAdamW

ITEMS, WIDTH, STEPS = 9, 3, 7
MAKERS = {
    "adamw": lambda weights, **kw: RowwiseAdamW(weights, lr=0.1, betas=(0.9, 0.97), **kw),
    "adamw without first moment": lambda weights, **kw: RowwiseAdamW(weights, lr=0.1, betas=(0.0, 0.97), **kw),
    "adagrad": lambda weights, **kw: RowwiseAdagrad(weights, lr=0.1, **kw),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def new_table(dtype=torch.float64, width=WIDTH):
    start = torch.randn(ITEMS, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.nn.Parameter(start.to(dtype))


def sparse(ids, rows, items=ITEMS):
    return torch.sparse_coo_tensor(
        torch.tensor([ids], dtype=torch.int64), rows, (items, rows.shape[1]), check_invariants=True
    )


def draws(dtype=torch.float64, width=WIDTH, seed=2):
    """Of each step: ids, some of them twice, and a gradient for each. Item 8 is never used."""
    random = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(ITEMS - 1, (6,), generator=random).tolist(),
            torch.randn(6, width, generator=random, dtype=torch.float64).to(dtype),
        )
        for _ in range(STEPS)
    ]


def take(optimizer, table, gradients):
    for grad in gradients:
        table.grad = grad
        optimizer.step()
    return table.detach()


def written_out(table, steps, beta1, beta2, decay, adagrad, lr=0.1, eps=1e-8):
    """Plain floats. `steps` holds (ids, rows)."""
    weights = [list(row) for row in table.tolist()]
    first = [[0.0] * WIDTH for _ in weights]
    second, count = [0.0] * len(weights), [0] * len(weights)
    for ids, rows in steps:
        sums = {i: [0.0] * WIDTH for i in ids}
        for i, row in zip(ids, rows.tolist()):
            sums[i] = [a + b for a, b in zip(sums[i], row)]
        for i, grad in sums.items():
            weights[i] = [(1 - lr * decay) * w for w in weights[i]]
            square = sum(g * g for g in grad) / WIDTH
            if adagrad:
                second[i] += square
                weights[i] = [w - lr * g / (math.sqrt(second[i]) + eps) for w, g in zip(weights[i], grad)]
                continue
            count[i] += 1
            first[i] = [beta1 * m + (1 - beta1) * g for m, g in zip(first[i], grad)]
            second[i] = beta2 * second[i] + (1 - beta2) * square
            below = math.sqrt(second[i] / (1 - beta2 ** count[i])) + eps
            weights[i] = [w - lr * m / (1 - beta1 ** count[i]) / below for w, m in zip(weights[i], first[i])]
    return torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", MAKERS)
def test_they_are_their_equations(name, decay):
    table = new_table()
    beta1 = 0.9 if name == "adamw" else 0.0
    expected = written_out(table, draws(), beta1, 0.97, decay, adagrad=name == "adagrad")
    found = take(MAKERS[name]([table], weight_decay=decay), table, (sparse(*draw) for draw in draws()))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: RowwiseAdamW(p, lr=0.1, weight_decay=0.2), lambda p: AdamW(p, lr=0.1, weight_decay=0.2)),
        (lambda p: RowwiseAdagrad(p, lr=0.1, eps=1e-10), lambda p: Adagrad(p, lr=0.1)),
    ],
    ids=["adamw", "adagrad"],
)
def test_of_a_table_one_wide_they_are_torchs_own(ours, theirs):
    gradients = [torch.randn(ITEMS, 1, dtype=torch.float64) for _ in range(STEPS)]
    a, b = new_table(width=1), new_table(width=1)
    torch.testing.assert_close(take(ours([a]), a, gradients), take(theirs([b]), b, gradients))


@every_optimizer
def test_a_dense_gradient_does_what_a_sparse_one_with_every_row_does(make):
    dense, every = new_table(torch.float32), new_table(torch.float32)
    gradients = [torch.randn(ITEMS, WIDTH) for _ in range(STEPS)]
    shuffled = torch.randperm(ITEMS)
    dense_optimizer, sparse_optimizer = make([dense], weight_decay=0.1), make([every], weight_decay=0.1)
    take(dense_optimizer, dense, gradients)
    take(sparse_optimizer, every, (sparse(shuffled.tolist(), grad[shuffled]) for grad in gradients))
    assert torch.equal(dense, every)
    for name, value in dense_optimizer.state[dense].items():
        assert torch.equal(value, sparse_optimizer.state[every][name]), name


@every_optimizer
def test_a_row_not_used_keeps_its_bits_and_its_moments(make):
    table = new_table(torch.float32)
    optimizer = make([table], weight_decay=0.1)
    take(optimizer, table, [torch.randn(ITEMS, WIDTH)])
    before = {"table": table.detach().clone()} | {k: x.clone() for k, x in optimizer.state[table].items()}
    take(optimizer, table, (sparse([2, 5, 2], torch.randn(3, WIDTH)) for _ in range(STEPS)))
    after = {"table": table.detach()} | optimizer.state[table]
    others = [i for i in range(ITEMS) if i not in (2, 5)]
    for name, value in after.items():
        assert torch.equal(value[others], before[name][others]), name
        assert (value[[2, 5]] != before[name][[2, 5]]).all(), name


@every_optimizer
def test_only_used_rows_are_read(make):
    table = new_table(torch.float32)
    optimizer = make([table])
    take(optimizer, table, [torch.zeros(ITEMS, WIDTH)])
    with torch.no_grad():
        table[3:] = torch.nan
    for value in optimizer.state[table].values():
        if value.is_floating_point():
            value[3:] = torch.nan
    take(optimizer, table, [sparse([0, 2], torch.randn(2, WIDTH))])
    assert table[:3].isfinite().all()
    assert table[3:].isnan().all()


@every_optimizer
def test_a_row_ends_where_it_would_be_without_the_steps_that_did_not_use_it(make):
    among_others, alone = new_table(torch.float32), new_table(torch.float32)
    gradients = [(i, torch.randn(1, WIDTH)) for i in (4, 1, 1, 4, 0, 1, 4, 7)]
    take(make([among_others]), among_others, (sparse([i], grad) for i, grad in gradients))
    take(make([alone]), alone, (sparse([i], grad) for i, grad in gradients if i == 4))
    assert torch.equal(among_others[4], alone[4])


@every_optimizer
def test_a_row_named_twice_is_added_up_first(make):
    twice, once = new_table(torch.float32), new_table(torch.float32)
    rows = torch.randn(4, WIDTH)
    take(make([twice]), twice, [sparse([6, 1, 6, 3], rows)])
    take(make([once]), once, [sparse([1, 3, 6], torch.stack([rows[1], rows[3], rows[0] + rows[2]]))])
    assert torch.equal(twice, once)


@every_optimizer
def test_nothing_used_changes_nothing(make):
    table, start = new_table(torch.float32), new_table(torch.float32)
    take(make([table], weight_decay=0.5), table, [None, sparse([], torch.zeros(0, WIDTH))])
    assert torch.equal(table, start)


@every_optimizer
def test_the_state_has_the_size_that_is_promised(make):
    table = torch.nn.Parameter(torch.randn(ITEMS, 50))
    optimizer = make([table])
    take(optimizer, table, [sparse([3], torch.randn(1, 50))])
    state = optimizer.state[table]
    size = sum(value.numel() * value.element_size() for value in state.values()) / ITEMS
    promised = {RowwiseAdagrad: 4, RowwiseAdamW: 8 + 4 * 50 * ("exp_avg" in state)}
    assert size == promised[type(optimizer)]


@every_optimizer
def test_saved_and_loaded_they_go_on_with_the_same_bits(make):
    whole, halves = new_table(torch.float32), new_table(torch.float32)
    gradients = [sparse(*draw) for draw in draws(torch.float32)]
    take(make([whole], weight_decay=0.1), whole, gradients)
    first, second = make([halves], weight_decay=0.1), make([halves], weight_decay=0.1)
    take(first, halves, gradients[:3])
    second.load_state_dict(first.state_dict())
    take(second, halves, gradients[3:])
    assert torch.equal(halves, whole)


@every_optimizer
def test_a_table_in_half_precision_keeps_its_moments_in_float32(make):
    half = new_table(torch.bfloat16)
    exact = torch.nn.Parameter(half.detach().float())
    optimizer = make([half])
    gradient = sparse([1, 2], torch.randn(2, WIDTH))
    take(optimizer, half, [gradient.to(torch.bfloat16)])
    take(make([exact]), exact, [gradient.to(torch.bfloat16).float()])
    assert torch.equal(half, exact.to(torch.bfloat16))
    assert {value.dtype for value in optimizer.state[half].values()} <= {torch.float32, torch.int32}


@every_optimizer
def test_they_find_the_vectors_that_are_asked_for(make):
    """Each row is asked for now and then, and must come near a vector of its own."""
    wanted = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(3))
    table = torch.nn.Embedding(ITEMS, WIDTH, sparse=True)
    optimizer = make([table.weight])
    for step in range(600):
        ids = (torch.arange(4) * (step + 1) + step) % ITEMS
        optimizer.zero_grad()
        (table(ids) - wanted[ids]).square().sum().backward()
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 600)
        optimizer.step()
    assert (table.weight - wanted).abs().max() < 0.05


def test_a_tensor_that_is_no_table_is_a_mistake():
    vector = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(AssertionError, match=r"a table is \[I, D\], but this one is \[3\]"):
        take(RowwiseAdagrad([vector]), vector, [torch.ones(3)])


def test_the_example_is_one_where_lazy_differs_from_plain_adamw():
    """or the tests above would not tell the two apart"""
    lazy, plain = new_table(), new_table()
    gradients = [sparse(*draw) for draw in draws()]
    take(MAKERS["adamw"]([lazy]), lazy, gradients)
    take(AdamW([plain], lr=0.1, betas=(0.9, 0.97), weight_decay=0), plain, (grad.to_dense() for grad in gradients))
    still = new_table()
    take(SGD([still], lr=0.0), still, gradients)
    assert (lazy - plain).abs().max() > 0.05 < (lazy - still).abs().max()
