"""README.md as somebody copies it, and the claims that its first screen makes."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import louder.api.training
from experiments.tables import first_screen, lines
from tests.api.test_python_page import made_small, shop

README = Path(__file__).parents[1] / "README.md"


def test_its_six_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line and "pandas" not in line]) == 6
    shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(louder.api.training, "train_run", made_small(louder.api.training.train_run))
    names: dict[str, object] = {}
    *before, last = block.strip().splitlines()
    exec("\n".join([*before, f"answer = {last}"]), names)
    answer = names["answer"]
    assert isinstance(answer, pd.DataFrame) and answer.groupby("user").size().to_dict() == {42: 10, 43: 10}


def test_its_pictures_are_there_and_light() -> None:
    found = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert found == ["docs/images/page.webp", "docs/images/tour.svg"]
    sizes = [(README.parent / picture).stat().st_size for picture in found]
    assert sizes[0] < 1_500_000 and sizes[1] < 60_000


def measured(case: str, name: str, seconds: float, **told: object) -> dict[str, object]:
    times = {"median_s": seconds, "min_s": seconds - 1, "max_s": seconds + 1, "runs": 3}
    return {"case": case, "implementation": name, **times, "threads": 2, "version": "0.19.0", "commit": "abc", **told}


def test_speed_is_told_beside_rectools_once_that_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FOLDERS", (tmp_path,))
    assert first_screen.rectools() == ["Not measured yet."]
    cases = ("an epoch, HSTU-large", {"labels": 983_507}), ("lists of 100 for all users, HSTU-large", {"rows": 604_000})
    times = {"louder": (20.0, 5.04), "rectools": (300.0, 50.4)}
    rows = [
        measured(case, name, times[name][place], **told) for place, (case, told) in enumerate(cases) for name in times
    ]
    (tmp_path / "rectools.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = first_screen.speed()
    assert "an epoch of HSTU-large on MovieLens-1M takes 20 s, and lists of 100 for its 6,040 users 5.0 s" in told
    assert "0.19 takes 300 s and 50 s" in told
    assert first_screen.rectools()[2:] == [
        "| an epoch, HSTU-large | 983,507 | 20.0 (19.0 to 21.0) | 300.0 (299.0 to 301.0) | 15.0 | 3 | abc |",
        "| lists of 100 for all users, HSTU-large | 604,000 | 5.0 (4.0 to 6.0) | 50.4 (49.4 to 51.4) | 10.0 | 3 | abc |",
    ]
