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


@pytest.mark.parametrize("part", ["louder.etl", "louder.histories", "louder.streaming"])
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


def test_a_model_that_only_answers_loads_no_compiler() -> None:
    """Whose 876 modules take seconds, in which a service answers nobody."""
    script = """
import torch
from louder.batch import SequenceBatch
from louder.models import HSTUConfig, Vocabulary, build
rows = torch.arange(4)
batch = SequenceBatch(ids=rows, timestamps=rows, query_timestamps=rows + 1, actions=rows * 0, offsets=torch.tensor([0, 4]))
for settings in {}, {"gating": False}:
    model = build(HSTUConfig(layers=1, width=8, heads=1, qk_width=8, v_width=8, max_len=9, **settings), Vocabulary(items=9))
    with torch.no_grad():
        model.eval().attention_sizes(model.events(batch), batch, 3)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", "import sys" + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout.split() and not {"torch._dynamo", "sympy"} & set(done.stdout.split())
