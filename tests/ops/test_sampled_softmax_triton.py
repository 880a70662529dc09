"""The Triton kernels of sampled softmax against naive: on a GPU where there is one, else under Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from benchmarks.kernel_check import SOFTMAX, by_triton, softmax_compared
from louder.ops.sampled_softmax import sampled_softmax

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", SOFTMAX)
def test_agrees_with_the_reference(name):
    example = SOFTMAX[name]
    few = example if DEVICE.type == "cuda" else example._replace(rows=min(12, example.rows))  # the interpreter is slow
    found = softmax_compared(name, few, DEVICE)
    assert found.agrees, found


@pytest.mark.parametrize("seed", [0, -1, (1 << 63) - 1, -(1 << 63), 1 << 31, 0xFFFF_FFFF, 12345 << 32])
def test_draws_what_the_reference_draws_for_any_seed(seed):
    """Each item's score is a power of two, so that the loss tells which were drawn and how often."""
    states, table = torch.ones(4, 1), torch.arange(1.0, 31)[:, None].log2()
    targets = torch.arange(4)

    def losses(device):
        given = [x.to(device) for x in (states, table, targets)]
        return sampled_softmax(*given, 9, temperature=1, seed=torch.tensor([seed])).cpu()

    expected = losses("cpu")
    with by_triton(DEVICE):
        found = losses(DEVICE)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_compiles_for_a_gpu_without_one(tmp_path):
    """The interpreter checks neither types nor shapes as the compiler does."""
    code = "from tests.ops.test_sampled_softmax_triton import compile_kernels; compile_kernels()"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compile_kernels():
    """Down to machine code for an H100."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from louder.ops.sampled_softmax import triton as kernels

    types = {torch.float32: "*fp32", torch.int64: "*i64", float: "fp32", int: "i32"}
    numbers = torch.zeros(3, 50)
    for negatives in None, torch.zeros(3, 7, dtype=torch.int64):
        given = kernels.arguments(torch.zeros(3, dtype=torch.int64), negatives, 7, 1 << 62, 40, 50)
        given |= dict.fromkeys(
            ["loss", "grad_logits", "d_states", "states", "table", "log_weights", "d_table"], numbers
        )
        given |= {"grad": numbers, "temperature": 0.5, "WEIGHTED": negatives is not None}
        for kernel in kernels.forward_kernel, kernels.table_gradient_kernel:
            constants = {x.name: given[x.name] for x in kernel.params if x.is_constexpr}
            signature = {name: types[getattr(given[name], "dtype", type(given[name]))]
                         for name in kernel.arg_names if name not in constants}  # fmt: skip
            source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
            assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
