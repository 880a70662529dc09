"""The page of ranking runs of every kind: its numbers are those of the evaluation, its lists those of the ranker."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from runs import untrained_run
from tables import ranking_table, tiny_ranking_config, write_ranking_table

from louder.config import to_dict
from louder.errors import InputError
from louder.models import DLRMConfig, WukongConfig
from louder.reports.ranked import look
from louder.reports.ranking_page import whole
from louder.reports.report import write_report
from louder.reports.run import read_run
from louder.training.loop import train
from louder.training.tasks import evaluate_run

DLRM = DLRMConfig(width=4, unit_hidden=4, counter_hidden=4, expert_hidden=(8,), tower_hidden=4)
KINDS = "joint", "generative", "dlrm", "wukong"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder that holds table/ and a run of each kind."""
    folder = tmp_path_factory.mktemp("ranking")
    log = ranking_table(1, requests="contiguous", users=30, longest=20, items=20)
    table = write_ranking_table(folder / "table", log)
    configs = {
        "generative": tiny_ranking_config(table, next_item=0.0),
        "joint": tiny_ranking_config(table),
        "dlrm": tiny_ranking_config(table, DLRM, next_item=0.0),
        "wukong": tiny_ranking_config(
            table,
            WukongConfig(width=4, layers=1, unit_hidden=4, counter_hidden=4, fmb_hidden=(8,), hidden=(8,)),
            next_item=0.0,
        ),
    }
    train(
        replace(configs["joint"], training=replace(configs["joint"].training, epochs=1)), folder / "joint", quiet=True
    )
    for kind in KINDS[1:]:  # random weights are as good to look at
        run = untrained_run(configs[kind], folder / kind)
        (run / "config.json").write_text(json.dumps(to_dict(configs[kind])))
        (run / "metrics.json").write_text(json.dumps(evaluate_run(run)))
    return folder


def without_plotly(page):
    from plotly.offline import get_plotlyjs

    return page.read_text(encoding="utf-8").replace(get_plotlyjs(), "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_page(made, kind, tmp_path):
    counted = []
    content = without_plotly(write_report(made / kind, tmp_path / "page.html", on_batch=counted.append))
    result = json.loads((made / kind / "metrics.json").read_text())
    assert sum(counted) == result["impressions"]
    for metrics in result["actions"].values():
        for name in "ne", "auc", "gauc_user", "calibration", "log_loss":
            assert metrics[name] is None or f"{metrics[name]:.4f}" in content
    assert f"{result['values']['log watch']['rmse']:.4f}" in content
    assert ("Next item" in content) == ("and retrieves" in content) == (kind == "joint")
    if kind == "joint":
        assert f"{result['next_item']['hr@10']:.4f}" in content
    figures = [json.loads(x) for x in re.findall(r'<script type="application/json">(.*?)</script>', content)]
    titles = re.findall(r"<figure><h3>(.*?)</h3>", content)
    where = ["By length of the history", "By popularity of the item", "Over time"]
    assert titles[:5] == [*result["actions"], *where]
    # every exposure is in one group of each figure
    for figure in figures[2:5]:
        texts = figure["data"][0]["text"]
        assert sum(int(text.split()[0].replace(",", "")) for text in texts) == result["impressions"]
    assert content.count('class="sample"') == 5
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=", content)
    assert "NaN" not in content


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_again_is_what_was_measured(made, kind):
    ranked = look(made / kind, read_run(made / kind).config, made / "table")
    result = json.loads((made / kind / "metrics.json").read_text())
    for at, metrics in enumerate(result["actions"].values()):
        again = whole(ranked, ranked.predictions.probabilities[:, at], ranked.predictions.labels[:, at])
        assert again.ne.value == pytest.approx(metrics["ne"])
        assert again.calibration.value == pytest.approx(metrics["calibration"])
        assert again.exposures == metrics["impressions"]


def test_a_list_is_marked_where_the_action_happened(made):
    ranked = look(made / "dlrm", read_run(made / "dlrm").config, made / "table")
    found = ranked.predictions
    for shown in ranked.users:
        scores = [line.score for line in shown.offered]
        assert scores == sorted(scores, reverse=True)
        user = ranked.table.user_ids.numbers[shown.user]
        own = found.users == user
        for line in shown.offered:
            item = ranked.table.item_ids.numbers[line.item]
            rows = own & (ranked.table.ids[found.rows] == item)
            at = ranked.actions.index(ranked.main)
            nearest = rows & (abs(found.probabilities[:, at] - line.score) < 1e-6)
            assert nearest.any()
            assert (ranked.main in line.actions) in found.labels[nearest, at]


def test_without_the_table_its_numbers_are_shown(made, tmp_path):
    run = shutil.copytree(made / "joint", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["table"] = "tables/gone"
    (run / "config.json").write_text(json.dumps(config))
    content = without_plotly(write_report(run))
    result = json.loads((run / "metrics.json").read_text())
    assert f"{result['actions'][result['main']]['ne']:.4f}" in content
    assert content.count("tables/gone is not there any more") == 2
    assert "Example users" not in content
    assert "Example users" in without_plotly(write_report(run, table=made / "table"))


def test_a_damaged_result_is_a_sentence(made, tmp_path):
    run = shutil.copytree(made / "dlrm", tmp_path / "run")
    result = json.loads((run / "metrics.json").read_text())
    del result["main"]
    (run / "metrics.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="it has no main"):
        write_report(run)
