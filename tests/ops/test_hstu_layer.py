import pytest
import torch
import torch.nn.functional as F

from louder.ops import hstu_layer as ops
from louder.ops.hstu_attention import hstu_attention
from louder.ops.hstu_layer import hstu_layer, rows, split
from louder.ops.layout import Layout
from louder.ops.random_bits import keep_factors

pytestmark = pytest.mark.usefixtures("needs_compiler")

LENGTHS = [5], [3, 0, 2], [63, 64, 65], [1, 130, 0, 7]


def example(lengths=(3, 0, 66), width=24, heads=2, qk_width=9, v_width=7, dtype=torch.float32, dropout=0.3, seed=0):
    """The tensors, and the keyword arguments."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=generator, dtype=dtype) * scale).requires_grad_()

    L = sum(lengths)
    key_times = torch.randint(0, 10**7, (L,), generator=generator).sort().values
    tensors = (
        normal(L, width),
        normal(2 * heads * (qk_width + v_width), width, scale=width**-0.5),
        normal(width, heads * v_width, scale=0.5),
        normal(width),
        Layout(torch.tensor([0, *lengths]).cumsum(0), query_times=key_times + 1000, key_times=key_times),
    )
    settings = dict(
        heads=heads,
        qk_width=qk_width,
        scale=1 / 50,
        dropout=dropout,
        seed=torch.tensor([99]) if dropout else None,
        position_bias=normal(40),
        time_bias=normal(60),
    )
    return tensors, settings


def reference(x, uvqk_weight, out_weight, out_bias, layout, *, heads, qk_width, dropout=0.0, seed=None, **settings):
    """hstu_layer, one tensor after the other, differentiable by plain autograd."""
    projected = F.silu(rows.layer_norm(x) @ uvqk_weight.T)  # (1)
    u, v, q, k = split(projected, heads, qk_width)
    a = hstu_attention(q, k, v, layout, **settings)  # (2)
    y = rows.layer_norm(a.flatten(1)) * u
    if seed is not None:
        y = y * keep_factors(seed, dropout, y.shape, torch.float32)
    return x + y @ out_weight.T + out_bias  # (3)


def test_the_reference_is_the_three_equations():
    """With one event a user, attention is silu of its own score times its value."""
    (x, uvqk, out_weight, out_bias, _), settings = example(
        [1] * 5, width=6, heads=2, qk_width=3, v_width=3, dropout=0.0
    )
    x = (x * 0.01).detach()  # so that the epsilon of a norm shows

    def norm(y):
        return (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-6).sqrt()

    u, v, q, k = F.silu(norm(x) @ uvqk.T).split(6, dim=1)
    heads = (y.unflatten(1, (2, 3)) for y in (q, k, v))
    score, value = (lambda q, k, v: ((q * k).sum(-1, keepdim=True), v))(*heads)
    mixed = (F.silu(score) / 50 * value).flatten(1)
    expected = x + (norm(mixed) * u) @ out_weight.T + out_bias
    settings |= dict(position_bias=None, time_bias=None)
    got = reference(x, uvqk, out_weight, out_bias, Layout(torch.arange(6)), **settings)
    torch.testing.assert_close(got, expected)


def run(op, tensors, settings):
    out = op(*tensors, **settings)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    leaves = [x for x in (*tensors, *settings.values()) if isinstance(x, torch.Tensor) and x.requires_grad]
    return [out.detach(), *torch.autograd.grad(out, leaves, weight, materialize_grads=True)]


def in_float64(tensors, settings):
    def exact(x):
        return x.detach().double().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    return [exact(x) for x in tensors], {name: exact(x) for name, x in settings.items()}


def assert_same_as_reference(tensors, settings, tolerance=1e-5):
    expected = run(reference, *in_float64(tensors, settings))
    for got, want in zip(run(hstu_layer, tensors, settings), expected, strict=True):
        largest = want.abs().max().item() if want.numel() else 0.0
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * max(largest, 1.0))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_agrees_with_the_reference_for_all_lengths(lengths, dropout):
    assert_same_as_reference(*example(lengths, dropout=dropout))


@pytest.mark.parametrize(("width", "heads", "qk_width", "v_width"), [(50, 1, 50, 50), (50, 2, 25, 25), (5, 1, 1, 3)])
def test_agrees_with_the_reference_for_all_widths(width, heads, qk_width, v_width):
    assert_same_as_reference(*example(width=width, heads=heads, qk_width=qk_width, v_width=v_width))


@pytest.mark.parametrize(
    "mask",
    [
        dict(prefix_lengths=torch.tensor([0, 0, 1, *(i - i % 6 * (1 - i % 2) for i in range(66))])),
        dict(window=5),
        dict(window=5, global_prefix=3),
    ],
    ids=lambda mask: next(iter(mask)),
)
def test_agrees_with_the_reference_for_masks(mask):
    (*tensors, layout), settings = example()
    assert_same_as_reference((*tensors, layout._replace(**mask)), settings)


def test_without_tables_and_without_a_compiler(monkeypatch):
    tensors, settings = example()
    settings |= dict(position_bias=None, time_bias=None)
    tensors = (*tensors[:4], Layout(tensors[4].offsets))
    assert_same_as_reference(tensors, settings)
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert rows.implementation(tensors[0]) is rows.PLAIN
    assert_same_as_reference(tensors, settings)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("rows_count", [1, 47, 48, 49, 200])
@pytest.mark.parametrize(("width", "inner"), [(7, 6), (16, 16), (50, 25), (3, 40)])
def test_the_three_implementations_agree(width, inner, rows_count, dropout):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    x, add, a, grad = normal(rows_count, width), normal(rows_count, width), normal(rows_count, inner), None
    weight, out_weight, bias = normal(4 * inner, width), normal(width, inner), normal(width)
    wide = normal(rows_count, 4 * inner)
    u, grad = wide[:, 3 : 3 + inner], normal(rows_count, width)  # a slice, as the layer has it
    parts = wide[:, :inner], *(normal(rows_count, inner) for _ in range(3))
    seed = torch.tensor([-5]) if dropout else None
    assert rows.implementation(x, weight).project is not rows.PLAIN.project
    for other in rows.fused(), rows.around_products(rows.compiled_rows()):
        for name, inputs in dict(
            project=(x, weight),
            output=(x, a, u, out_weight, bias, dropout, seed),
            output_backward=(grad, a, u, out_weight, dropout, seed),
            project_backward=(x, wide, *parts, weight, add),
        ).items():
            got, want = getattr(other, name)(*inputs), getattr(rows.PLAIN, name)(*inputs)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_same_bits_with_any_number_of_threads(threads):
    tensors, settings = example([130, 0, 64, 200], width=24)
    with threads(1):
        expected = run(hstu_layer, tensors, settings)
    for count in 2, 2, 3:
        with threads(count):
            for got, want in zip(run(hstu_layer, tensors, settings), expected):
                assert torch.equal(got, want)


def test_a_wide_layer_agrees_with_the_reference():
    assert_same_as_reference(*example(width=320, heads=2, qk_width=32, v_width=40), tolerance=3e-5)


def test_gradients_in_float64():
    tensors, settings = example([2, 0, 3], width=4, qk_width=2, v_width=3, dtype=torch.float64)

    def op(x, uvqk, out, bias, position_bias, time_bias):
        given = settings | dict(position_bias=position_bias, time_bias=time_bias)
        return hstu_layer(x, uvqk, out, bias, tensors[4], **given)

    assert torch.autograd.gradcheck(op, (*tensors[:4], settings["position_bias"], settings["time_bias"]))


@pytest.mark.parametrize("prefix_lengths", [None, torch.tensor([0, 0, 2, 0, 0])], ids=["", "prefix_lengths"])
@pytest.mark.parametrize("training", [True, False])
def test_the_op_keeps_the_rules_of_torch_compile(training, prefix_lengths):
    (*tensors, layout), settings = example([3, 0, 2])
    inputs = (*tensors, *settings.values(), *layout._replace(prefix_lengths=prefix_lengths, window=1), training)
    if not training:
        inputs = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in inputs)
    torch.library.opcheck(ops.layer, inputs)


def test_keeps_six_numbers_a_channel():
    """24 bytes times the width for a token in float32, of which x is the layer's input; the paper has 28."""
    tensors, settings = example([500], width=64, heads=2, qk_width=32, v_width=32)
    sizes = {}

    def count(x):
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        hstu_layer(*tensors, **settings)
    constants = [x for x in (*tensors[1:4], *tensors[4], *settings.values()) if isinstance(x, torch.Tensor)]
    for x in constants:
        sizes.pop(x.untyped_storage().data_ptr(), None)
    assert sum(sizes.values()) <= 500 * 64 * 24 + 100


def test_nothing_is_kept_without_gradients():
    tensors, settings = example()
    with torch.no_grad():
        out = hstu_layer(*tensors, **settings)
    torch.testing.assert_close(out, hstu_layer(*tensors, **settings))


def test_the_op_and_the_plain_function_give_the_same_bits():
    """With gradients, or under a compiler, the op is dispatched; without them it is called."""
    tensors, settings = example()
    recorded = hstu_layer(*tensors, **settings)
    q = k = v = torch.ones(69, 1, 2)
    attended = hstu_attention(q.requires_grad_(), k, v, tensors[-1], scale=0.1)
    assert recorded.requires_grad and attended.requires_grad
    with torch.no_grad():
        assert torch.equal(hstu_layer(*tensors, **settings), recorded)
        assert torch.equal(hstu_attention(q, k, v, tensors[-1], scale=0.1), attended)
        with pytest.raises(ValueError, match="offsets must"):  # values are looked at either way
            hstu_attention(q, k, v, tensors[-1]._replace(offsets=torch.tensor([0, 3])), scale=0.1)


def test_products_in_bfloat16_leave_the_residual_stream_in_float32():
    tensors, settings = example()
    x, uvqk, out, *rest = tensors
    got = hstu_layer(x, uvqk.bfloat16(), out.bfloat16(), *rest, **settings)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, hstu_layer(*tensors, **settings), rtol=0.05, atol=0.1)
    got.sum().backward()
    assert x.grad.dtype == torch.float32
    assert uvqk.grad.isfinite().all()


def test_wrong_shapes_name_the_argument():
    (x, uvqk, out, bias, layout), settings = example()
    with pytest.raises(ValueError, match="uvqk_weight must be"):
        hstu_layer(x, uvqk[1:], out, bias, layout, **settings)
    with pytest.raises(ValueError, match="out_bias must be"):
        hstu_layer(x, uvqk, out, bias[1:], layout, **settings)
    with pytest.raises(ValueError, match="seed must be one int64"):
        hstu_layer(x, uvqk, out, bias, layout, **settings | dict(seed=torch.tensor(1)))
    with pytest.raises(ValueError, match="query_offsets must be None"):
        hstu_layer(x, uvqk, out, bias, layout._replace(query_offsets=layout.offsets), **settings)
