"""Kernels are tested with torch.empty full of NaN, so that memory they forget to write is seen."""

import contextlib
import shutil

import pytest
import torch

from louder.ops import build


@pytest.fixture(autouse=True)
def fill_uninitialized_memory():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def needs_compiler():
    if not build.shipped(build.sources()[0]) and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler: there is no fast kernel to test")


@pytest.fixture
def threads():
    """`with threads(1):` runs the block on that many threads."""

    @contextlib.contextmanager
    def limit(count: int):
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return limit
