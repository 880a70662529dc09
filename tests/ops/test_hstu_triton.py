"""The Triton kernels against naive: on a GPU where there is one, else under Triton's interpreter."""

import itertools
import os
import random
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are decorated, so before their import

from louder.ops.hstu_attention import bucket_starts, naive
from louder.ops.layout import Layout

pytest.importorskip("triton")
from louder.ops.hstu_attention import triton as kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = kernels.forward_kernel, kernels.query_gradient_kernel, kernels.key_gradient_kernel
TABLES = ["position", "time", "both", "neither"]
# the interpreter's blocks are of 16 rows and 32 keys
LENGTHS = [5], [3, 0, 2], [0, 0], [], [1, 1, 1], [15, 16, 17], [1, 50, 0, 33]


@pytest.fixture(autouse=True)
def one_choice_of_blocks(monkeypatch):
    """Tuning on a GPU would compile every kernel many times for every width."""
    for kernel in KERNELS:
        monkeypatch.setattr(kernel, "configs", kernel.configs[-2:][:1])


def example(
    lengths, queries=None, targets=None, prefix_lengths=None, window=None, global_prefix=0,
    heads=1, width=8, v_width=None, tables="both", dtype=torch.float32, P=20, T=20,
):  # fmt: skip
    """The inputs of kernels.forward but for the last; `targets` (candidates) and `queries` are numbers for each user."""
    generator = torch.Generator().manual_seed(0)
    queries, v_width = queries or lengths, v_width or width
    M, L = sum(queries), sum(lengths)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    def integers(values):
        return torch.tensor(values, dtype=torch.int64, device=DEVICE)

    # slices of wider tensors, as the model makes them: not contiguous
    q = normal(M, heads, width + 3)[..., :width]
    k, v = normal(L, heads, width + v_width).split([width, v_width], dim=2)
    key_times = torch.randint(0, 5000, (L,), generator=generator).sort().values
    query_times = torch.cat([x[len(x) - n :] for x, n in zip(key_times.split(lengths), queries)] or [key_times])
    query_times = query_times + torch.randint(0, 100, (M,), generator=generator)
    if targets is not None:
        prefix_lengths = [min(i, n - count) for n, count in zip(lengths, targets) for i in range(n)]
    layout = Layout(
        integers([0, *lengths]).cumsum(0), None if prefix_lengths is None else integers(prefix_lengths),
        integers([0, *queries]).cumsum(0), query_times.to(DEVICE), key_times.to(DEVICE), window, global_prefix,
    )  # fmt: skip
    biases = normal(P) if tables in ("position", "both") else None, normal(T) if tables in ("time", "both") else None
    return q, k, v, layout, 1 / 50, *biases


def starts(time_bias):
    return bucket_starts(0 if time_bias is None else len(time_bias)).to(DEVICE)


def assert_same_as_reference(inputs, tolerance=1e-5):
    """The output and all five gradients. naive computes in float64, so that its own rounding does not count."""
    grad = torch.randn(len(inputs[0]), *inputs[2].shape[1:], generator=torch.Generator().manual_seed(1)).to(inputs[2])
    got = kernels.forward(*inputs, starts(inputs[-1])), *kernels.backward(grad, *inputs, starts(inputs[-1]))
    exact = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
    expected = naive.hstu_attention(*exact), *naive.hstu_attention_backward(grad.double(), *exact)
    for x, y in zip(got, expected, strict=True):
        # a sum of positive and negative terms is rounded as its terms are, however small it is
        largest = y.abs().max().item() if y.numel() else 0.0
        assert x.dtype == inputs[2].dtype
        torch.testing.assert_close(x.double(), y, rtol=tolerance, atol=tolerance * max(largest, 1.0))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_agrees_with_the_reference_for_all_lengths(lengths):
    assert_same_as_reference(example(lengths))


@pytest.mark.parametrize("tables", TABLES)
def test_agrees_with_the_reference_for_all_tables(tables):
    assert_same_as_reference(example([40, 3], targets=[2, 0], tables=tables))


@pytest.mark.parametrize(("P", "T"), [(1, 1), (7, 2), (200, 150)])
def test_agrees_with_the_reference_for_all_lengths_of_the_tables(P, T):
    assert_same_as_reference(example([40], P=P, T=T))


@pytest.mark.parametrize(
    ("width", "v_width", "heads"), [(1, 1, 1), (8, 8, 3), (25, 25, 2), (50, 64, 1), (64, 25, 2), (64, 5, 1)]
)
def test_agrees_with_the_reference_for_all_widths(width, v_width, heads):
    assert_same_as_reference(example([3, 0, 20], heads=heads, width=width, v_width=v_width))


# items and their actions in turn, the items of three at a time at one place; and prefix_lengths of all kinds
REQUESTS = [i - i % 6 * (1 - i % 2) for n in (50, 20, 1, 9) for i in range(n)]
PREFIX_LENGTHS = [random.Random(i).randint(0, i) for n in (50, 20, 1, 9) for i in range(n)]
MASKS = {
    "candidates": {"targets": [20, 3, 0, 9]},
    "window": {"window": 10},
    "window of one": {"window": 1},
    "window, global prefix": {"window": 10, "global_prefix": 4},
    "window, global prefix longer than a block": {"window": 3, "global_prefix": 40},
    "window, candidates": {"window": 7, "targets": [20, 3, 0, 2]},
    "new rows": {"queries": [17, 2, 0, 9]},
    "new rows, candidates": {"queries": [20, 2, 1, 0], "targets": [20, 3, 0, 9]},
    "new rows, window, global prefix": {"queries": [17, 2, 0, 9], "window": 5, "global_prefix": 3},
    "prefix lengths": {"prefix_lengths": PREFIX_LENGTHS},
    "prefix lengths of requests": {"prefix_lengths": REQUESTS},
    "new rows, prefix lengths": {"queries": [20, 2, 1, 0], "prefix_lengths": PREFIX_LENGTHS},
    "requests, window, global prefix": {"prefix_lengths": REQUESTS, "window": 6, "global_prefix": 3},
    "new rows, everything": {
        "queries": [48, 20, 0, 2], "window": 10, "global_prefix": 4, "targets": [20, 3, 0, 1]
    },
}  # fmt: skip


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_agrees_with_the_reference_for_all_masks(masks):
    assert_same_as_reference(example([50, 20, 1, 9], **masks))


@pytest.mark.parametrize("window", [1, 30, 100])
@pytest.mark.parametrize("global_prefix", [0, 5, 32, 70])
def test_agrees_with_the_reference_where_blocks_of_keys_are_left_out(global_prefix, window):
    for prefix_lengths in None, [i - i % 6 * (1 - i % 2) for i in range(200)]:
        masks = dict(window=window, global_prefix=global_prefix, prefix_lengths=prefix_lengths)
        assert_same_as_reference(example([200], width=4, tables="neither", **masks))


# bfloat16 has 8 bits, float16 11; the interpreter multiplies bfloat16 wrongly
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_agrees_with_the_reference_in_half_precision(dtype, tolerance):
    if dtype == torch.bfloat16 and kernels.INTERPRETED:
        pytest.skip("bfloat16 needs a GPU")
    assert_same_as_reference(example([40, 3], targets=[5, 0], heads=2, width=50, dtype=dtype), tolerance)


def test_any_strides():
    inputs = example([40, 3], heads=2)
    rotated = [x.permute(2, 1, 0).contiguous().permute(2, 1, 0) for x in inputs[:3]]  # the width is not contiguous
    by_head = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs[:3]]
    for same in rotated, by_head:
        out = kernels.forward(*same, *inputs[3:], starts(inputs[-1]))
        assert torch.equal(out, kernels.forward(*inputs, starts(inputs[-1])))


def test_more_users_than_are_counted_at_once():
    lengths = [0] * 300
    lengths[3], lengths[255], lengths[256], lengths[298] = 2, 20, 3, 1
    inputs = example(lengths)
    out = kernels.forward(*inputs, starts(inputs[-1]))
    torch.testing.assert_close(out, naive.hstu_attention(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("buckets", [1, 60, 128])
def test_time_buckets_are_naives_at_every_boundary(buckets):
    """One event after many. Their values are the rows of the identity, so that the result is the weight of each."""
    near = bucket_starts(200)
    near = near[near < 2.0**40].to(torch.int64)
    seconds = torch.cat([near - 1, near, near + 1, near - near // 2**24, -near, torch.arange(-20, 20)])
    width = 128
    seconds = F.pad(seconds, (0, -len(seconds) % width)).to(DEVICE)
    users, L = len(seconds) // width, len(seconds)
    nothing, table = torch.zeros(L, 1, 8, device=DEVICE), torch.arange(1.0, buckets + 1, device=DEVICE)
    v = torch.eye(width, device=DEVICE).repeat(users, 1)[:, None]
    one_each = torch.arange(users + 1, device=DEVICE)
    now = torch.zeros(users, dtype=torch.int64, device=DEVICE)
    out = kernels.forward(
        nothing[:users], nothing, v, Layout(one_each * width, None, one_each, now, -seconds), 1.0, None, table, starts(table)
    )  # fmt: skip
    got = (out.reshape(-1, 1) - F.silu(table)).abs().argmin(dim=1)
    assert torch.equal(got.cpu(), naive.time_buckets(seconds.cpu(), buckets))  # a GPU's logarithm rounds otherwise


def test_compiles_for_a_gpu_without_one(tmp_path):
    """The interpreter checks neither types nor shapes as the compiler does."""
    code = "from tests.ops.test_hstu_triton import compile_kernels; compile_kernels()"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compile_kernels():
    """Down to machine code for an H100, in the smallest blocks, which take the least time."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", float: "fp32", int: "i32"}
    cases = itertools.product(
        (torch.bfloat16, torch.float32), ({"window": 4, "global_prefix": 1}, {"prefix_lengths": [*range(9)]})
    )
    for dtype, masks in cases:
        q, k, v, *others = example([9], width=64, v_width=50, dtype=dtype, **masks)
        inputs = kernels.arguments(q, k, v, *others, starts(others[-1]))
        made = {"out": v, "grad": v, "dq": q, "dk": k, "dv": v, "COPIES": kernels.COPIES}
        made |= {"d_position": torch.zeros(1), "d_time": torch.zeros(1)}
        for kernel in KERNELS:
            config = kernels.fitting(kernel.configs, None, **inputs)[-1]
            given = inputs | made | config.kwargs
            constants = {x.name: given[x.name] for x in kernel.fn.params if x.is_constexpr}
            signature = {name: types[getattr(given[name], "dtype", type(given[name]))]
                         for name in kernel.fn.arg_names if name not in constants}  # fmt: skip
            source = ASTSource(kernel.fn, signature | dict.fromkeys(constants, "constexpr"), constants)
            options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
            assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
