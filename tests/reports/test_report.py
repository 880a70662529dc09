"""The page of a tiny real run: three epochs on a table of sixty users, whose titles try to break out of the markup."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from louder.data.config import DataConfig
from louder.errors import InputError
from louder.models import HSTUConfig
from louder.reports import published, samples
from louder.reports.markup import Html, script_json, table, tag
from louder.reports.report import write_report
from louder.reports.run import read_run
from louder.reports.run_page import page
from louder.schema import Manifest
from louder.training.config import Config, TrainingConfig
from louder.training.loop import train
from louder.training.task import open_config_table

USERS, ITEMS, LENGTH = 60, 20, 8
EVIL = "<script>alert(1)</script>"


def write_table(folder: Path) -> None:
    """User u meets items u, u + 1, u + 2 ... (modulo 20), an hour apart."""
    events = USERS * LENGTH
    manifest = Manifest(
        louder="0",
        command=f"louder etl {EVIL}",
        name="tiny & small",
        sources=[{"path": "tiny.csv", "bytes": 1, "sha256": "00"}],
        users=USERS,
        items=ITEMS,
        events=events,
        tokens=events,
        has_times=True,
        first_time=0,
        last_time=3600 * (USERS + LENGTH - 2),
        dropped={},
        filters={},
        actions=["liked"],
    )
    (folder / "sequences").mkdir(parents=True)
    (folder / "vocabulary").mkdir()
    manifest.write(folder)
    lists = {"id": lambda u, n: (u + n) % ITEMS, "time": lambda u, n: 3600 * (u + n), "actions": lambda u, n: n % 2}
    columns: dict[str, pa.Array] = {
        name: pa.array([[f(u, n) for n in range(LENGTH)] for u in range(USERS)], pa.list_(pa.int64()))
        for name, f in lists.items()
    }
    columns["user"] = pa.array(range(USERS), pa.int64())
    columns["kind"] = pa.array([[0] * LENGTH] * USERS, pa.list_(pa.uint8()))
    pq.write_table(pa.table(columns), folder / "sequences" / "part-00000.parquet")
    pq.write_table(pa.table({"raw": [f"viewer {u}" for u in range(USERS)]}), folder / "vocabulary" / "user.parquet")
    pq.write_table(pa.table({"raw": list(range(100, 100 + ITEMS))}), folder / "vocabulary" / "item.parquet")
    titles = [f"Film {i} {EVIL}" for i in range(ITEMS)]
    pq.write_table(pa.table({"title": titles, "genres": [["Drama", "<b>Noir</b>"]] * ITEMS}), folder / "items.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds table/ and run/."""
    folder = tmp_path_factory.mktemp("report")
    write_table(folder / "table")
    config = Config(
        name="tiny",
        data=DataConfig(table=str(folder / "table"), max_len=8, users_per_batch=16),
        model=HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8),
        training=TrainingConfig(epochs=3, log_steps=1, device="cpu"),
    )
    train(config, folder / "run", quiet=True)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may spoil."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def body(file: Path) -> str:
    """The page without plotly's own code, which holds addresses as texts."""
    from plotly.offline import get_plotlyjs

    content, code = file.read_text(encoding="utf-8"), get_plotlyjs()
    assert content.count(code) == 1, "plotly belongs on the page, once"
    return content.replace(code, "")


def test_page_holds_the_numbers_of_the_run(run: Path) -> None:
    file = write_report(run)
    assert file == run / "report.html"
    content = body(file)
    result = json.loads((run / "metrics.json").read_text())
    for name in "hr@1", "hr@10", "ndcg@10", "ndcg@200", "mrr", "coverage@10":
        assert f"{result['metrics'][name]:.4f}" in content
        assert f"{result['popularity'][name]:.4f}" in content
    for group in result["by_length"]:
        assert f"{group['users']:,} users" in content
    for text in "protocol validated", f"epoch {result['epoch'] + 1} of 3", "seed 42", result["machine"], result["date"]:
        assert text in content
    assert "users_per_batch: 16" in content
    assert "tiny.csv" in content


def test_page_loads_nothing(run: Path) -> None:
    content = body(write_report(run))
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=", content)
    assert "<link" not in content
    assert "@import" not in content
    assert "http://" not in content
    assert "https://" not in content


def test_text_of_data_is_escaped(run: Path) -> None:
    content = body(write_report(run))
    assert EVIL not in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    assert "<b>Noir" not in content
    assert "tiny &amp; small" in content


def test_figures_are_whole(run: Path) -> None:
    figures = re.findall(r'<script type="application/json">(.*?)</script>', body(write_report(run)))
    specs = [json.loads(figure) for figure in figures]
    assert len(specs) == 1 + 3 + 4  # by length; loss, validation, speed; lengths, popularity, activity, pauses
    losses = [row["loss"] for row in read_run(run).rows("step")]
    assert specs[1]["data"][0]["y"] == losses
    assert all(spec["data"] for spec in specs)


def test_samples_are_of_the_evaluation(made: Path) -> None:
    """All users sampled: the ranks that the page shows give the metrics that the run has."""
    config = read_run(made / "run").config
    table = open_config_table(config)
    drawn = samples.draw(made / "run", config, table, users=USERS, k=10)
    assert len(drawn) == USERS
    result = read_run(made / "run").result
    ranks = torch.tensor([sample.rank for sample in drawn])
    assert (ranks <= 10).double().mean().item() == pytest.approx(result["metrics"]["hr@10"])
    for sample in drawn:
        number = int(str(sample.user).removeprefix("viewer "))
        assert sample.held_out.item == 100 + (number + LENGTH - 1) % ITEMS
        assert [line.item for line in sample.history] == [100 + (number + n) % ITEMS for n in range(LENGTH - 1)]
        assert sample.held_out.actions == ("liked",)
        assert {line.item for line in sample.recommended}.isdisjoint(line.item for line in sample.history)
        (first, *_, last) = sample.history
        assert (first.time, last.time) == (3600 * number, 3600 * (number + LENGTH - 2))
        marked = [place for place, line in enumerate(sample.recommended, 1) if line.held_out]
        assert marked == ([sample.rank] if sample.rank <= 10 else [])


def test_a_long_history_shows_its_end_and_users_are_drawn_by_the_seed(made: Path) -> None:
    config = read_run(made / "run").config
    table = open_config_table(config)
    few = samples.draw(made / "run", config, table, users=3, k=2, latest=2)
    for sample in few:
        number = int(str(sample.user).removeprefix("viewer "))
        assert sample.events == LENGTH - 1
        assert [line.item for line in sample.history] == [100 + (number + n) % ITEMS for n in (LENGTH - 3, LENGTH - 2)]
        assert len(sample.recommended) == 2
    again = samples.draw(made / "run", config, table, users=3)
    assert [sample.user for sample in again] == [sample.user for sample in few]
    other = replace(config, training=replace(config.training, seed=7))
    assert [s.user for s in samples.draw(made / "run", other, table, users=3)] != [s.user for s in few]


def test_without_the_table(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["table"] = "tables/gone"
    (run / "config.json").write_text(json.dumps(config))
    content = body(write_report(run, run.parent / "page.html"))
    assert content.count("tables/gone is not there any more") == 2
    assert f"{json.loads((run / 'metrics.json').read_text())['metrics']['hr@10']:.4f}" in content


def test_table_elsewhere(run: Path, made: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["table"] = "tables/gone"
    (run / "config.json").write_text(json.dumps(config))
    assert "What came next" in body(write_report(run, table=made / "table"))
    with pytest.raises(InputError, match="is a run, and no sequence table"):
        write_report(run, table=run)
    with pytest.raises(InputError, match="nowhere"):
        write_report(run, table=made / "nowhere")


def test_nothing_is_told_of_a_table_that_is_not_the_runs(run: Path, made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made / "table", other)
    raw = pq.read_table(other / "vocabulary" / "item.parquet")["raw"].to_pylist()
    pq.write_table(pa.table({"raw": raw[::-1]}), other / "vocabulary" / "item.parquet")
    config = json.loads((run / "config.json").read_text())
    config["data"]["table"] = str(other)
    (run / "config.json").write_text(json.dumps(config))
    content = body(write_report(run))
    assert content.count("other is not the table") == 2
    assert "What came next" not in content


def test_without_checkpoints_the_rest_is_shown(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    content = body(write_report(run))
    assert "What came next" not in content
    assert "state.json" in content


def test_unfinished(run: Path, tmp_path: Path) -> None:
    (run / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"is not finished.* --resume"):
        write_report(run)
    with pytest.raises(InputError, match="There is no run"):
        write_report(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a run"):
        write_report(tmp_path / "empty")


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_damaged(run: Path, content: str) -> None:
    (run / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json is damaged"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_no_place_to_write(run: Path) -> None:
    (run / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(run, run / "file" / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        write_report(run, run)


def test_protocols_never_share_a_table(run: Path) -> None:
    """Published numbers are official: only a run of that protocol is put among them."""
    finished = read_run(run)
    named = replace(finished, config=replace(finished.config, name="ml1m-hstu"))
    hit_rate = f"{finished.result['metrics']['hr@10']:.4f}"

    def section(protocol: str) -> str:
        shown = page(replace(named, result=finished.result | {"protocol": protocol}), None, [], {})
        return shown.partition("Published on MovieLens-1M")[2].partition("</section>")[0]

    validated, official = section("validated"), section("official")
    for content in validated, official:
        assert "0.3097" in content
        assert "protocol official" in content
        assert "6,040" in content  # the tiny run has fewer users, and the page says so
    assert "this run" not in validated
    assert hit_rate not in validated
    assert "louder train ml1m:hstu --set protocol=official" in validated
    assert "this run" in official
    assert hit_rate in official


def test_published_numbers_belong_to_recipes() -> None:
    for recipe in "ml1m-hstu", "ml1m-hstu-large", "ml20m-sasrec", "books-hstu":
        dataset = published.for_run(recipe)
        assert dataset is not None
        assert {row.model for row in dataset.rows} == {"SASRec", "HSTU", "HSTU-large", "HSTU-large, MoL"}
    assert published.for_run("demo") is None


def test_markup_escapes() -> None:
    assert tag("p", "<b>", Html("<i>")) == "<p>&lt;b&gt;<i></p>"
    assert tag("p", class_='"x"') == '<p class="&quot;x&quot;"></p>'
    assert "</script>" not in script_json('{"a": "</script>"}')[:-9]
    assert '<tr class="marked"><td>1</td><td class="number">2</td></tr>' in table(
        ["a", "b"], [[1, 2]], numbers=1, marked=0
    )
