"""What is loaded with what: the parts that run where little is installed. import-linter holds the rest (pyproject.toml)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    *("pyarrow", "duckdb", "ibis", "pydantic", "typer", "rich", "safetensors", "yaml", "tensorboard", "plotly"),
    *("fastapi", "uvicorn", "httpx", "prometheus_client", "lmdb", "redis", "faiss", "pandas", "sklearn"),
)


def modules(package: str) -> list[str]:
    files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def load(names: list[str], *, without: tuple[str, ...] = (), then: str = "") -> str:
    script = f"import sys; sys.modules.update(dict.fromkeys({without!r})); import {', '.join(names)}; {then}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", ["louder.ops", "louder.models", "louder.training", "louder.recipes"])
def test_loads_with_torch_and_numpy_alone(part: str) -> None:
    names = [name for name in modules(part) if not name.endswith(".triton")]
    assert len(names) > 3
    load(names, without=ELSEWHERE)


@pytest.mark.parametrize("part", ["louder.etl", "louder.histories"])
def test_loads_without_torch(part: str) -> None:
    load(modules(part), without=("torch",))


def test_a_service_loads_no_trainer_and_no_page_of_reports() -> None:
    loaded = load(["louder", *modules("louder.serving")], then="print(*sys.modules)").split()
    assert "louder.inference" in loaded
    never = "louder.training", "louder.recipes", "louder.reports", "plotly", "benchmarks", "experiments"
    assert not [name for name in loaded if name.startswith(never)]


def test_help_is_fast_since_it_loads_neither_torch_nor_plotly() -> None:
    loaded = load(["louder.cli"], then="print(*sys.modules)").split()
    assert not {"torch", "plotly", "pyarrow", "ibis", "fastapi"} & set(loaded)
