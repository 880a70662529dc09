"""louder demo, at a size that takes seconds."""

import json
from pathlib import Path

import pytest

from louder.cli.demo import run_demo
from louder.data.synthetic import demo_log
from louder.errors import InputError

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
