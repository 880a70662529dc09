"""Dropout and the rows of an HSTU layer in Triton against the reference: on a GPU, else under Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from benchmarks.kernel_check import DROPPED, LAYERS, dropout_compared, layer_compared

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_agrees_with_the_reference(name):
    if DEVICE.type == "cpu" and torch.bfloat16 in LAYERS[name]:
        pytest.skip("Triton's interpreter multiplies bfloat16 wrongly")
    found = layer_compared(name, LAYERS[name], DEVICE)
    assert found.agrees, found


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_keeps_what_the_reference_keeps(name):
    found = dropout_compared(name, DROPPED[name], DEVICE)
    assert found.agrees, found


def test_compiles_for_a_gpu_without_one(tmp_path):
    """The interpreter checks neither types nor shapes as the compiler does."""
    code = "from tests.ops.test_rows_triton import compile_kernels; compile_kernels()"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compile_kernels():
    """Down to machine code for an H100."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from louder.ops.dropout import triton as dropout
    from louder.ops.hstu_layer import triton as rows

    sizes = {"D": 50, "EPS": 1e-6, "BLOCK_R": 64, "BLOCK": 64, "DROPS": True}
    kernels = rows.norm_kernel, rows.norm_backward_kernel, rows.gate_kernel, rows.gate_backward_kernel
    for dtype in "*fp32", "*bf16":
        for kernel in *kernels, dropout.dropout_kernel:
            constants = {x.name: sizes[x.name] for x in kernel.params if x.is_constexpr}
            tensors = dict.fromkeys(("out", "x", "a", "u", "grad", "add", "da", "du"), dtype)
            signature = {name: tensors.get(name, "fp32" if name == "scale" else "i32")
                         for name in kernel.arg_names if name not in constants}  # fmt: skip
            source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
            assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
