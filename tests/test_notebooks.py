"""Every notebook runs, in a kernel as Jupyter starts one, within a bounded time; and holds what it showed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path) -> None:
    command = [sys.executable, "docs/notebooks/execute.py", "--check", file.stem]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    from nbclient.exceptions import CellExecutionError

    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": "1 / 0"}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "wrong.ipynb").write_text(json.dumps(notebook))
    code = (
        "import pathlib, sys; sys.path.insert(0, 'docs/notebooks'); import execute; execute.executed(pathlib.Path(%r))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code % str(tmp_path / "wrong.ipynb")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and CellExecutionError.__name__ in done.stderr and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_as_it_was_run_from_the_first_cell_to_the_last(file: Path) -> None:
    cells = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs and not [output for output in outputs if output["output_type"] == "error"]
    assert "/tmp/" not in json.dumps(outputs) and "Warning" not in json.dumps(outputs)
    assert file.stat().st_size < 100_000


def test_there_are_three() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["inside", "own_log", "ranking"]
