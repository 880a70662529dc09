import os
import subprocess
import sys
import warnings

import pytest
import torch

from louder.ops import build
from louder.ops.hstu_attention import attention
from tests.ops.test_hstu_attention import example, reference

# stands for a kernel: compiles at once, and says when it is loaded
SOURCE = '#include <cstdio>\nstatic const int loaded = std::puts("loaded");\n'


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """As in a new process on a machine that has built nothing."""
    monkeypatch.setenv("LOUDER_CACHE", str(tmp_path / "cache"))
    build.load.cache_clear()
    build.warn_once.cache_clear()
    yield tmp_path
    build.load.cache_clear()
    build.warn_once.cache_clear()


def no_compiler():
    raise OSError("no C++ compiler (g++ or clang++) was found")


def test_without_a_compiler_naive_is_used_with_one_warning(fresh, monkeypatch):
    monkeypatch.setattr(build, "compiler", no_compiler)
    inputs = example([3, 0, 66])
    with pytest.warns(UserWarning, match=r"not used on this machine: no C\+\+ compiler"):
        out = attention(*inputs)
    assert torch.equal(out, reference(*inputs))
    with warnings.catch_warnings(action="error"):  # the backward and the other op say it no more
        out.sum().backward()
        assert not build.load("sampled_softmax", build.HEADERS / "sampled_softmax" / "cpu.cpp")


def test_a_source_that_does_not_compile_is_a_warning_with_the_reason(fresh, needs_compiler):
    source = fresh / "cpu.cpp"
    source.write_text("int broken = nonsense;\n")
    with pytest.warns(UserWarning, match="nonsense"):
        assert not build.load("broken", source)


def test_a_cache_that_cannot_be_written_is_a_warning(fresh, monkeypatch):
    (fresh / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cache"):
        assert not build.load("mine", fresh / "cpu.cpp")


def test_builds_once_and_then_loads(fresh, needs_compiler, capfd):
    source = fresh / "cpu.cpp"
    source.write_text(SOURCE)
    with warnings.catch_warnings(action="error"):
        assert build.load("mine", source)
    assert capfd.readouterr().err == "louder: compiling mine for this machine, once (about 15 s)\n"
    build.load.cache_clear()
    assert build.load("mine", source)
    assert capfd.readouterr().err == ""


def test_a_changed_source_is_another_library(fresh):
    source = fresh / "cpu.cpp"
    source.write_text(SOURCE)
    before = build.fingerprint(source)
    source.write_text(SOURCE + "\n")
    assert build.fingerprint(source) != before


def test_two_processes_at_once_build_once(fresh, needs_compiler):
    source = fresh / "cpu.cpp"
    source.write_text(SOURCE)
    script = "import sys, pathlib; from louder.ops import build; print(build.load('mine', pathlib.Path(sys.argv[1])))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert all("True" in out and "loaded" in out for out, _ in outputs)
    assert "".join(err for _, err in outputs).count("compiling") == 1
