"""The page about Python, run from its first block to its last, as somebody would who copies it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import louder.api.training
from louder.config import override
from louder.results import Row

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "python.md"
SMALL = ["model.layers=1", "training.epochs=1", "data.users_per_batch=64"]


def shop(folder: Path) -> None:
    """What the page reads."""
    draw = np.random.default_rng(0)
    orders = pd.DataFrame(
        {
            "customer": np.repeat(np.arange(100), 8),
            "sku": [f"p{n}" for n in draw.integers(40, size=800)],
            "bought_at": draw.integers(1_700_000_000, 1_710_000_000, 800),
            "stars": draw.integers(1, 6, 800),
        }
    )
    orders.to_csv(folder / "orders.csv", index=False)
    numbers = range(40)
    titles, kinds = [f"Product {n}" for n in numbers], [["shoe", "hat"][n % 2] for n in numbers]
    products = pd.DataFrame({"sku": [f"p{n}" for n in numbers], "title": titles, "kind": kinds})
    products.to_csv(folder / "products.csv", index=False)


def made_small(train: Callable[..., Row]) -> Callable[..., Row]:
    return lambda config, *arguments, **keywords: train(override(config, SMALL), *arguments, **keywords)


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(louder.api.training, "train_run", made_small(louder.api.training.train_run))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert "The frame has no column 'member'; its columns are customer, sku" in capsys.readouterr().out
    everybody, some, frame = (names[name] for name in ("everybody", "some", "frame"))
    assert isinstance(everybody, pd.DataFrame) and everybody.shape == (1000, 5)
    assert isinstance(some, pd.DataFrame) and set(some.user) == set(range(100))
    assert all(int(item[1:]) % 2 == 0 and item != "p2" for item in some.item)
    assert type(frame).__module__.startswith("polars")
    assert (tmp_path / "runs" / "shop" / "report.html").is_file()


def test_the_first_block_has_six_lines() -> None:
    first = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert first is not None
    lines = [line for line in first[1].splitlines() if line and "pandas" not in line]
    assert len(lines) == 6 and max(map(len, lines)) <= 80
