"""louder demo, at a size that takes seconds."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from louder.cli import demo as cli
from louder.cli.demo import run_demo
from louder.data.synthetic import demo_log
from louder.errors import InputError
from louder.etl import build_table
from louder.ops import build
from louder.recipes.demo import demo as recipe
from louder.reports.samples import Line, Sample
from louder.schema import Manifest

SMALL = ["training.epochs=2", "model.width=16", "model.layers=1", "training.device=cpu"]


def test_from_log_to_page_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = demo_log(0, users=150, items=200)
    page = run_demo(output=tmp_path, log=log, settings=SMALL)
    shown = capsys.readouterr().out
    assert page == tmp_path / "runs" / "demo" / "report.html"
    metrics = json.loads((tmp_path / "runs" / "demo" / "metrics.json").read_text())
    assert f"{metrics['metrics']['hr@10']:.4f}" in shown
    assert f"{metrics['popularity']['hr@10']:.4f}" in shown
    assert "What came next" in shown
    assert "louder recommend" in shown
    manifest = json.loads((tmp_path / "tables" / "demo" / "manifest.json").read_text())
    assert manifest["sources"][0]["path"] == "demo.parquet"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "tables"]

    again = run_demo(output=tmp_path, log=log, settings=SMALL)
    assert again == page
    assert json.loads((tmp_path / "runs" / "demo" / "metrics.json").read_text())["metrics"] == metrics["metrics"]


def test_a_log_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A csv without a clock in sight of the recipe: user u meets items u, u + 1, u + 2 ..."""
    lines = ["user_id,item_id,timestamp"]
    lines += [f"u{u},i{(u + n) % 30},{1_700_000_000 + 60 * n}" for u in range(40) for n in range(10)]
    file = tmp_path / "mine.csv"
    file.write_text("\n".join(lines) + "\n")
    run_demo(str(file), tmp_path, settings=SMALL)
    manifest = json.loads((tmp_path / "tables" / "demo" / "manifest.json").read_text())
    assert (manifest["name"], manifest["users"]) == ("demo of mine", 40)
    assert "--user u" in capsys.readouterr().out

    page = run_demo(str(tmp_path / "tables" / "demo"), tmp_path / "other", settings=SMALL)
    assert page.is_file()
    assert not (tmp_path / "other" / "tables").exists()


def test_ordered_sequences_without_times(tmp_path: Path) -> None:
    file = tmp_path / "ordered.txt"
    file.write_text("".join(f"{u} " + " ".join(str((u + n) % 30 + 1) for n in range(10)) + "\n" for u in range(40)))
    run_demo(str(file), tmp_path, settings=SMALL)
    config = json.loads((tmp_path / "runs" / "demo" / "config.json").read_text())
    assert config["model"]["time_bias"] is False


def test_columns_that_are_not_known_lead_to_etl(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(InputError, match="louder demo --data TABLE"):
        run_demo(str(file), tmp_path, settings=SMALL)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("folder", ["runs/demo", "tables/demo"])
def test_what_is_not_a_demos_is_left_alone(tmp_path: Path, folder: str) -> None:
    mine = tmp_path / folder
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError):
        run_demo(output=tmp_path, log=demo_log(0, users=20, items=200), settings=SMALL)
    assert (mine / "thesis.txt").read_text() == "years of work"


def manifest(**changed: Any) -> Manifest:
    counts = {"users": 1_000, "items": 9, "events": 60_000, "tokens": 60_000, "first_time": 0, "last_time": 1}
    facts = {
        "louder": "0",
        "command": "",
        "name": "demo",
        "sources": [],
        "has_times": True,
        "dropped": {},
        "filters": {},
    }
    return Manifest(**(facts | counts | changed))


def test_a_larger_log_gets_fewer_epochs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "affordable_events", lambda: 100_000)
    most, max_len = recipe().training.epochs, recipe().data.max_len

    def epochs(**sizes: int) -> int:
        return cli.fitted(manifest(**sizes), tmp_path).training.epochs

    assert most > 3 and max_len > 20
    assert epochs(events=33_000) == 3
    assert epochs(events=1_000_000, users=100_000 // (3 * max_len)) == 3  # of each user only max_len events are read
    assert epochs(events=1_000_000, users=1_000_000) == 1
    assert epochs(events=10) == most
    config = cli.fitted(manifest(has_times=False), tmp_path)
    assert (config.model.time_bias, config.data.table) == (False, str(tmp_path))
    assert cli.fitted(manifest(), tmp_path).model.time_bias is True


def test_without_kernels_there_is_less_to_train_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(build, "load_all", lambda: True)
    assert cli.affordable_events() == cli.EVENTS_IN_ALL

    monkeypatch.setattr(build, "load_all", lambda: False)
    assert cli.affordable_events() == cli.WITHOUT_KERNELS < cli.EVENTS_IN_ALL
    assert "C++ kernels" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.affordable_events() == cli.EVENTS_IN_ALL


def shown(sample: Sample, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """Lines of the past, and of what was offered."""
    cli.print_sample(sample)
    past, _, offered = capsys.readouterr().out.partition("Recommended then")
    return past.splitlines(), offered.splitlines()


def test_a_sample_is_the_latest_events_and_the_best_items(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    history = [Line(item=n, title=f"[b]Film {n}", genres="Noir", time=60 * n, actions=("liked",)) for n in range(8)]
    best = [Line(item=20, title="First", score=0.75), Line(item=21, title="Second", score=0.5, held_out=True)]
    sample = Sample("[u]", 1_234, history, replace(history[0], title="Next", time=600), 2.0, 1_700, best)
    past, offered = shown(sample, capsys)
    text = "\n".join(past)
    assert "User [u], latest of 1,234 events" in text
    assert all(name in past[2] for name in ("time", "item", "genres", "actions"))
    assert [f"[b]Film {n} " in text for n in range(8)] == [False] * 2 + [True] * 6
    assert "1970-01-01 00:07" in text
    assert re.search(r"1 .*First .* 0\.7500", offered[4]) and re.search(r"2 .*Second .* 0\.5000", offered[5])
    assert "What came next: Next, ranked 2 of 1,700." in offered[-1]

    bare = [replace(line, time=None, actions=()) for line in history]
    past, offered = shown(replace(sample, history=bare, held_out=replace(bare[0]), rank=None), capsys)
    assert "time" not in past[2] and "actions" not in past[2]
    assert "had it before" in offered[-1]


def test_what_to_type_next_names_the_run_its_table_and_a_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 5},i{n},{n}\n" for n in range(50)))
    build_table(file, tmp_path / "t", overwrite=True)
    cli.print_next(None, Path("runs/demo"), tmp_path / "t")
    out = capsys.readouterr().out
    assert "louder recommend runs/demo --user u" in out and "louder serve runs/demo --open" in out
    assert f"louder data inspect {tmp_path / 't'}" in out and "louder demo --data LOG.csv" in out
    cli.print_next("mine.csv", Path("runs/demo"), tmp_path / "t")
    assert "louder demo --data" not in capsys.readouterr().out


def test_another_run_or_table_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "config.json").write_text('{"name": "mine"}')
    with pytest.raises(InputError, match="was not made by a demo"):
        cli.require_own_run(tmp_path / "runs" / "demo")
    (tmp_path / "table").mkdir()
    manifest(name="demonstration").write(tmp_path / "table")
    with pytest.raises(InputError, match="was not made by a demo"):
        cli.require_own_table(tmp_path / "table")
    manifest(name="demo of mine").write(tmp_path / "table")
    cli.require_own_table(tmp_path / "table")
