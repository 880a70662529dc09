"""What `pip install louder` gives: kernels that need no compiler, for any processor, and that give the right numbers."""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
import torch

import build_backend
from louder.ops import build

ROOT = Path(__file__).parents[1]
BESIDE_IT = ("pyproject.toml", "setup.py", "build_backend.py", "MANIFEST.in", "constraints.txt", "README.md", "LICENSE")
EQUALITY = (  # one test or two of each kernel: values and gradients beside the reference's, and errors
    "tests/ops/test_dropout.py",
    "tests/ops/test_hstu_attention.py::test_agrees_with_the_reference_for_all_widths",
    "tests/ops/test_hstu_layout.py::test_bfloat16_is_float32_for_every_width",
    "tests/ops/test_hstu_layer.py::test_the_three_implementations_agree",
    "tests/ops/test_sampled_softmax.py::test_agrees_with_naive",
    "tests/ops/test_sampled_softmax.py::test_an_id_outside_the_table_is_an_error",
    "tests/ops/test_mixture_softmax.py::test_agrees_with_naive",
    "tests/inference/test_index.py::test_scores_of_pairs_are_inner_products",
    "tests/inference/test_index.py::test_kernel_and_reference_find_the_same_of_more_items_than_a_list_holds",
    "tests/inference/test_mfalcon.py::test_the_same_history_twice_in_one_pass",
)
# a plugin of pytest: takes this level of the processor's for the best one, and looks at what was loaded in the end
AT_A_LEVEL = """
import os, pathlib, torch
from louder.ops import build
level = os.environ["LEVEL"]
build.levels = lambda: list(build.LEVELS)[list(build.LEVELS).index(level):]

def pytest_sessionfinish(session, exitstatus):
    assert exitstatus == 0 and build.load_all()
    assert os.environ["PLACE"] in build.__file__
    loaded = {pathlib.Path(path) for path in torch.ops.loaded_libraries}
    assert {path.parent.name for path in loaded} >= {path.parent.name for path in build.sources()}
    assert all(path in map(build.shipped, build.sources()) for path in loaded), loaded
    assert level in {path.stem for path in loaded}, loaded
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere the kernels are compiled on first use")
def test_the_wheel_needs_no_compiler(tmp_path: Path) -> None:
    if not build_backend.compiles():
        pytest.skip("no C++ compiler: there is nothing to ship")
    wheel = built(tmp_path)
    assert wheel.name.startswith("louder-") and "-py3-none-manylinux_" in wheel.name
    python = empty_environment(tmp_path / "venv")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    shutil.copytree(ROOT / "tests", tmp_path / "there" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "there" / "at_a_level.py").write_text(AT_A_LEVEL)
    for level in build.levels():
        assert "passed" in run(python, level, tmp_path)
    assert not (tmp_path / "cache").exists()  # nothing was compiled


def built(folder: Path) -> Path:
    """The wheel of the sdist of these sources, both made as `python -m build` does, but with the torch that is here."""
    sources = folder / "sources"
    shutil.copytree(ROOT / "louder", sources / "louder", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE_IT:
        shutil.copy(ROOT / name, sources)
    hooks = "import build_backend; build_backend.build_{}('..')".format
    subprocess.run([sys.executable, "-c", hooks("sdist")], cwd=sources, check=True, capture_output=True)
    (sdist,) = folder.glob("louder-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    environment = {**os.environ, "PYTHONPATH": ""}
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run(
        [sys.executable, "-c", hooks("wheel")], cwd=unpacked, env=environment, check=True, capture_output=True
    )
    (wheel,) = folder.glob("louder-*.whl")
    return wheel


def empty_environment(folder: Path) -> Path:
    """A Python that has what this one has, but for Louder."""
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "elsewhere.pth").write_text(str(Path(torch.__file__).parents[1]))  # a .pth file in there is not read
    return folder / "bin" / "python"


def run(python: Path, level: str, folder: Path) -> str:
    environment = {
        "PATH": str(folder / "nothing"),
        "HOME": str(folder),
        "LOUDER_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(folder / "there"),
        "OMP_NUM_THREADS": "1",
        "LEVEL": level,
        "PLACE": str(folder / "venv"),
    }
    command = [str(python), "-m", "pytest", "-q", "-p", "at_a_level", "-p", "no:cacheprovider", *EQUALITY]
    done = subprocess.run(command, cwd=folder / "there", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
