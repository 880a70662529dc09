"""What runs on a machine that has torch and numpy, and nothing else of ours."""

import subprocess
import sys

import pytest

ELSEWHERE = "pyarrow", "duckdb", "ibis", "pydantic", "typer", "rich", "safetensors", "yaml", "tensorboard", "plotly"


@pytest.mark.parametrize(
    "module", ["louder.ops.hstu_attention", "louder.models", "louder.training.loop", "louder.recipes.ml1m"]
)
def test_imports_with_torch_and_numpy_alone(module: str) -> None:
    script = f"import sys; sys.modules.update(dict.fromkeys({ELSEWHERE!r})); import {module}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_etl_needs_no_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; import louder.etl"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
