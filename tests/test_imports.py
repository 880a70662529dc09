"""What is loaded with what: the parts that run where little is installed. import-linter holds the rest (pyproject.toml)."""

import subprocess
import sys
from pathlib import Path

import pytest
from runs import untrained_run
from tables import random_users, tiny_config, write_table

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


def test_the_package_loads_nothing_until_it_is_used() -> None:
    loaded = load(["louder"], then="dir(louder); print(*sys.modules)").split()
    assert not {"torch", "numpy", "pyarrow", "pandas", "ibis", "yaml", "rich"} & set(loaded)
    # a log needs no torch, and none of it needs pandas or polars
    loaded = load(["louder"], then="louder.log; print(*sys.modules)").split()
    assert "pyarrow" in loaded and "torch" not in loaded
    load(["louder"], without=("pandas", "polars", "IPython"), then="[getattr(louder, name) for name in louder.__all__]")


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


def test_a_recommendation_loads_what_it_needs_alone(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table", random_users(5, items=9, longest=6), items=9)
    untrained_run(tiny_config(table), tmp_path / "run")
    command = [sys.executable, "-X", "importtime", "-m", "louder", "recommend", str(tmp_path / "run"), "--user", "101"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Recommended" in done.stdout, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "louder.inference.engine", "pyarrow.parquet"} <= loaded
    never = (
        "pandas.",
        "torch._dynamo",
        "torch._inductor",
        "sympy",
        "duckdb",
        "ibis",
        "sklearn",
        "plotly",
        "fastapi",
        "httpx",
    )
    never += (
        "louder.training",
        "louder.recipes",
        "louder.reports",
        "louder.serving",
        "louder.etl",
        "tensorboard",
        "lmdb",
    )
    assert not {name for name in loaded if name.startswith(never)}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('a word')", 1),
        ("sys.exit()", 0),
        ("1 / 0", 1),
        ("import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('x')", 2),
    ],
)
def test_a_command_ends_with_its_code_and_after_all_that_waits_for_the_end(
    body: str, code: int, tmp_path: Path
) -> None:
    script = f"""
import atexit, sys, threading, time
import louder.__main__ as program
def command():
    atexit.register(print, "bye")
    threading.Thread(target=lambda: (time.sleep(0.2), print("done", file=sys.stderr))).start()
    {body}
program.main = command
program.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code and "done" in done.stderr
    assert "bye" in done.stdout or code == 2
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in body)


def test_a_command_has_no_pandas_and_who_looks_for_it_is_not_disturbed() -> None:
    script = """
import importlib.util, sys
import louder.__main__ as program
def command():
    import pyarrow as pa
    assert pa.array([1, None]).to_numpy(zero_copy_only=False).tolist()[0] == 1
    importlib.util.find_spec("pandas")  # as torch's compiler does
    try:
        import pandas
    except ImportError:
        print("none")
program.main = command
program.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "none\n", "")


def test_a_table_is_made_and_trained_on_without_pandas(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = [f"{user},{(user * 7 + event) % 20},{1_700_000_000 + event}\n" for user in range(30) for event in range(6)]
    log.write_text("user_id,item_id,timestamp\n" + "".join(rows))
    train = ["train", "demo", "--table", "t", "-o", "r", "--set", "training.epochs=1"]
    for command in ["etl", "log.csv", "-o", "t"], train, ["recommend", "r", "--users", "all", "-o", "recs.csv"]:
        words = [sys.executable, "-m", "louder", *command]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len((tmp_path / "recs.csv").read_text().splitlines()) == 301
