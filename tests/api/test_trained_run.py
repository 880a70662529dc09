"""Python and the command line: the same log and the same settings give the same run and the same answers."""

import json
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import louder
from louder.api.choice import config_of
from louder.api.settings import assignments
from louder.cli import app
from louder.errors import Interrupted
from tests.api.test_frames_in import MEANING, events, products
from tests.runs import untrained_run
from tests.tables import ranking_table, tiny_ranking_config, write_ranking_table

SIZES = {"model.width": 8, "model.qk_width": 4, "model.v_width": 4, "model.layers": 1, "data.users_per_batch": 16}


def typed(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> louder.Log:
    folder = tmp_path_factory.mktemp("shop")
    return louder.log(events(), **MEANING, items=products(), folder=folder / "table")


@pytest.fixture(scope="module")
def run(log: louder.Log) -> louder.TrainedRun:
    return louder.train(log, "demo", folder=log.path.parent / "run", epochs=1, settings=SIZES, quiet=True)


def test_the_command_trains_the_same_run(run: louder.TrainedRun, log: louder.Log, tmp_path: Path) -> None:
    settings = [
        word for name, value in (SIZES | {"training.epochs": 1}).items() for word in ("--set", f"{name}={value}")
    ]
    row = json.loads(typed("train", "demo", "--table", log.path, "-o", tmp_path / "run", *settings, "--json"))
    assert row["metrics"] == run.metrics["metrics"] == run.evaluate()["metrics"]
    configs = [json.loads((folder / "config.json").read_text()) for folder in (run.path, tmp_path / "run")]
    assert configs[0] == configs[1]


def test_lists_of_many_users_are_those_of_the_command(run: louder.TrainedRun, tmp_path: Path) -> None:
    typed("recommend", run.path, "--users", "all", "-k", "4", "-o", tmp_path / "recs.parquet")
    expected = pq.read_table(tmp_path / "recs.parquet").to_pandas()
    pd.testing.assert_frame_equal(run.recommend(k=4), expected)
    assert run.recommend_to(tmp_path / "called.parquet", k=4) == len(expected) == 160
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "called.parquet").to_pandas(), expected)
    assert list(expected.columns) == ["user", "rank", "item", "title", "score"]
    assert expected.user.dtype == "int64" and expected.item[0].startswith("p")  # as they went in


def test_users_may_be_given_in_any_way_and_count_once(run: louder.TrainedRun) -> None:
    some = [3, 1, 3]
    wanted = run.recommend(users=[3, 1], k=2)
    assert wanted.user.tolist() == [3, 3, 1, 1]
    frame = pd.DataFrame({"user": some})
    for users in some, tuple(some), frame, frame.user, frame.user.to_numpy(), pa.array(some):
        pd.testing.assert_frame_equal(run.recommend(users=users, k=2), wanted)
    pd.testing.assert_frame_equal(run.recommend(users=1, k=2), wanted[2:].reset_index(drop=True))
    for users in pl.Series(some), pl.DataFrame({"user": some}):
        answer = run.recommend(users=users, k=2)
        assert isinstance(answer, pl.DataFrame)
        assert answer.to_dict(as_series=False) == wanted.to_dict("list")
    assert isinstance(run.recommend(users=pa.table({"user": some}), k=2), pa.Table)


def test_unknown_users_and_items_are_said(run: louder.TrainedRun) -> None:
    sentence = r"^2 of the 3 users are not in the table and are left out: 'x', 99\.$"
    with pytest.warns(UserWarning, match=sentence):
        assert run.recommend(users=["x", 1, 99], k=2).user.tolist() == [1, 1]
    with pytest.warns(UserWarning, match="users|items") as warned:
        run.recommend(users=[99, 1], k=2), run.rank(1, ["p1", "p99"]), run.recommend(users=[1], allow=[])
    assert [warning.filename for warning in warned] == [__file__] * 3  # the line that is to be mended
    with pytest.raises(louder.InputError, match=r"^There is no 99 among the users in the table\.$"):
        run.recommend(users=[99])
    with pytest.raises(louder.InputError, match=r"^None of the 2 users is in the table: 98, 99\.$"):
        run.recommend(users=[98, 99])
    with pytest.raises(louder.InputError, match=r"^There is no 'p99' among the items of the history in"):
        run.recommend(history=["p99"])
    with pytest.warns(UserWarning, match="^1 of the 2 items of the history are not in the model's catalogue"):
        pd.testing.assert_frame_equal(run.recommend(history=["p99", "p1"], k=3), run.recommend(history=["p1"], k=3))
    with pytest.raises(louder.InputError, match="There are no users"):
        run.recommend(users=[])
    with pytest.raises(louder.InputError, match="There is no item 'p99' among the 30 known ones"):
        run.similar("p99")
    with pytest.warns(UserWarning, match="^1 of the 2 items are not in the model's catalogue"):
        assert run.rank(1, ["p1", "p99"]).item.tolist() == ["p1"]
    with pytest.warns(UserWarning, match="^2 of the 2 users get no items: nothing"):
        assert len(run.recommend(users=[1, 2], allow=[])) == 0


def test_filters_are_those_of_the_recommender(run: louder.TrainedRun) -> None:
    allowed = run.recommend(users=[1], k=30, allow=["p1", "p2"], seen=True)
    assert sorted(allowed.item) == ["p1", "p2"]
    ordered = run.recommend(users=[1], k=30, seen=True)
    assert run.rank(1, ["p2", "p1"]).item.tolist() == [item for item in ordered.item if item in ("p1", "p2")]
    called = louder.load(run.path).recommend(user=1, k=3)
    answer = run.recommend(users=[1], k=3)
    assert answer.item.tolist() == [x.item for x in called] and answer.title.tolist() == [x.title for x in called]


def test_one_value_is_a_list_of_it_and_a_date_is_a_time(run: louder.TrainedRun, joint: louder.TrainedRun) -> None:
    allowed = run.recommend(users=[1], allow="p1", seen=True)
    assert allowed.item.tolist() == ["p1"] and len(run.recommend(users=[1], deny="p1", k=30, seen=True)) == 29
    genres = [joint.recommend(users=[103], where={"genres": x}, k=12, seen=True) for x in ("western", ["western"])]
    assert 0 < len(genres[0]) < 12
    pd.testing.assert_frame_equal(*genres)
    moments = "2020-11-01", date(2020, 11, 1), pd.Timestamp("2020-11-01", tz="UTC"), np.int64(1604188800)
    answers = [run.recommend(users=[1], k=3, at=at) for at in moments]
    assert all(answer.equals(answers[0]) for answer in answers)
    assert not answers[0].equals(run.recommend(users=[1], k=3))


def test_a_new_history_is_answered_without_a_table(run: louder.TrainedRun) -> None:
    answer = run.recommend(history=["p1", "p2"], k=3)
    called = louder.load(run.path).recommend(history=[louder.Event("p1", 0), louder.Event("p2", 1)], k=3)
    assert answer.item.tolist() == [x.item for x in called] and answer["rank"].tolist() == [1, 2, 3]


def test_similar_items_are_the_nearest_by_cosine(run: louder.TrainedRun) -> None:
    engine = run.recommender.engine
    vectors = engine.vectors.numpy()
    unit = vectors / (vectors**2).sum(1, keepdims=True) ** 0.5
    (number,) = engine.catalogue.item_ids.ids(["p5"])
    cosines = unit @ unit[number]
    order = [n for n in (-cosines).argsort() if n != number][:4]
    answer = run.similar("p5", k=4)
    assert answer.item.tolist() == engine.catalogue.item_ids.raws(order)
    assert answer.score.to_numpy() == pytest.approx(cosines[order], abs=1e-6)


def test_reasons_are_events_of_the_user_and_say_what_the_score_would_be(run: louder.TrainedRun) -> None:
    answer = run.explain(1, k=2, events=2)
    assert list(answer.columns) == ["item", "title", "score", "because", "because_title", "time", "attention", "change"]
    top = run.recommend(users=[1], k=2)
    assert answer.item.tolist() == [item for item in top.item for _ in range(2)]
    own = events()[events().customer == 1].sort_values("bought", kind="stable")
    pairs = set(zip(own.sku, own.bought.astype("datetime64[s]").dt.tz_localize("UTC")))
    assert set(zip(answer.because, answer.time)) <= pairs
    # without the event, the score is lower by what is said: asked again with the rest of the history
    first = answer.iloc[0]
    at = int(first.time.timestamp())
    names = {"liked": own.stars >= 4, "bought": own.kind == "buy"}
    rest = [
        louder.Event(row.sku, int(row.bought.timestamp()), [name for name, did in names.items() if did[place]])
        for place, row in own.iterrows()
        if (row.sku, int(row.bought.timestamp())) != (first.because, at)
    ]
    last = int(own.bought.max().timestamp())
    (lower,) = run.recommender.recommend(history=rest, k=1, allow=[first["item"]], seen=True, at=last)
    assert lower.score - first.score == pytest.approx(first.change, abs=1e-4)
    chosen = run.explain(1, ["p3"], events=1)
    assert chosen.item.tolist() == ["p3"]


def test_a_run_on_disk_is_opened_and_shows_itself(run: louder.TrainedRun) -> None:
    opened = louder.open(run.path)
    assert opened.frame == "pandas" and opened.log.events == 400
    pd.testing.assert_frame_equal(opened.recommend(users=[1], k=2), run.recommend(users=[1], k=2))
    page = opened._repr_html_()
    assert "hr@10" in page and "popularity" in page and f"{run.metrics['metrics']['hr@10']:.4f}" in page
    assert "hr@10" in repr(opened) and "hr@10" in repr(run.metrics)
    with pytest.raises(louder.InputError, match="There is no run nowhere"):
        louder.open("nowhere")


def test_the_report_is_a_file_with_a_link(run: louder.TrainedRun, tmp_path: Path) -> None:
    page = run.report(tmp_path / "page.html")
    assert page.path == tmp_path / "page.html" and "<!doctype html>" in Path(page).read_text(encoding="utf-8")
    assert page.path.as_uri() in page._repr_html_()


def test_settings_have_three_ways_and_misspelt_ones_the_nearest_name(log: louder.Log, tmp_path: Path) -> None:
    ways = [
        assignments({"training.epochs": 3, "data.positive": ["liked"]}, {}),
        assignments({"training": {"epochs": 3}, "data": {"positive": ("liked",)}}, {}),
        assignments(None, {"epochs": 3, "positive": ["liked"]}),
        assignments(None, {"training": {"epochs": 3}, "positive": ["liked"]}),
    ]
    configs = [config_of("demo", str(log.path), settings=way)[0] for way in ways]
    assert all(config == configs[0] for config in configs) and configs[0].training.epochs == 3
    assert configs[0].data.table == str(log.path) and configs[0].data.positive == ("liked",)
    assert assignments(None, {"kinds": "x", "width": 8, "time_bias": np.bool_(False), "learning_rate": 1e-5}) == [
        'kinds="x"',
        "model.width=8",  # also of a mixture of logits, which few configs have
        "model.time_bias=false",
        "training.learning_rate=1e-05",
    ]
    for words, sentence in {
        "epoch": "There is no setting 'epoch'.",
        "max_len": "The setting 'max_len' may be data.max_len or model.max_len. Say which: settings={'data.max_len': …}.",
    }.items():
        with pytest.raises(louder.InputError, match=sentence.replace("{", "\\{")):
            louder.train(log, "demo", folder=tmp_path / "run", **{words: 3})
    with pytest.raises(louder.InputError, match=r"but this is DataFrame\. Make a log of it first: louder\.log"):
        louder.train(events(), "demo")  # type: ignore[arg-type]
    with pytest.raises(louder.InputError, match=r"There is no recipe 'dem'\. Did you mean demo"):
        louder.train(log, "dem")


def test_a_temporary_table_is_kept_beside_a_run_that_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = louder.log(events(), **MEANING)
    run = louder.train(log, "demo", folder=tmp_path / "run", epochs=1, settings=SIZES, quiet=True)
    assert run.table == tmp_path / "run-table" and str(run.table) in capsys.readouterr().err
    del log
    assert len(louder.open(tmp_path / "run").recommend(users=[1], k=2)) == 2


def test_a_temporary_run_is_kept_with_its_table(tmp_path: Path) -> None:
    log = louder.log(events(), **MEANING)
    run = louder.train(log, "demo", epochs=1, settings=SIZES, quiet=True)
    assert run.temporary and "Keep it: run.keep(" in run._repr_html_()
    expected, path = run.recommend(k=3), run.path
    kept = run.keep(tmp_path / "kept")
    del run, log
    assert not path.exists() and kept.table == tmp_path / "kept-table" and not kept.temporary
    opened = louder.open(tmp_path / "kept")
    pd.testing.assert_frame_equal(opened.recommend(k=3), expected)
    assert opened.table == tmp_path / "kept-table" and opened.evaluate()["metrics"] == kept.metrics["metrics"]
    again = louder.train(kept.log, folder=kept.path, resume=True, epochs=2, quiet=True)
    assert again.metrics["epochs_trained"] == 2


def test_an_interrupt_says_how_to_go_on(log: louder.Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from louder.training import screen

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(screen.Screen, "step", interrupted)
        with pytest.raises(Interrupted, match=r"Go on: louder.train\(log, folder='.*run', resume=True\)"):
            louder.train(log, "demo", folder=tmp_path / "run", epochs=1, settings=SIZES, quiet=True)
    goes_on = louder.train(log, folder=tmp_path / "run", resume=True, quiet=True)
    assert goes_on.metrics["epochs_trained"] == 1


def test_without_pandas_answers_are_of_arrow(run: louder.TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(louder.open(run.path).recommend(users=[1], k=2), pa.Table)


def test_a_log_chooses_its_recipe_and_says_so(
    log: louder.Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = louder.train(log, folder=tmp_path / "run", epochs=1, settings=SIZES)
    said = capsys.readouterr().err
    assert said.startswith("Chosen from the table; change any of it with settings={'NAME': 'VALUE'}:")
    settings = [
        word for name, value in (SIZES | {"training.epochs": 1}).items() for word in ("--set", f"{name}={value}")
    ]
    shown = yaml.safe_load(typed("train", "--table", log.path, *settings, "--show"))
    assert json.loads((chosen.path / "config.json").read_text()) == shown
    goes_on = louder.train(log, folder=tmp_path / "run", epochs=2, resume=True, quiet=True)
    assert goes_on.metrics["epochs_trained"] == 2


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> louder.TrainedRun:
    folder = tmp_path_factory.mktemp("joint")
    table = write_ranking_table(folder / "table", ranking_table(users=20, items=12, series=False))
    return louder.open(untrained_run(tiny_ranking_config(table), folder / "run"))


def test_a_run_that_ranks_gives_the_probability_of_each_action(joint: louder.TrainedRun) -> None:
    answer = joint.rank(103, [1000, 1001, 1002])
    called = {x.item: x for x in louder.load(joint.path).rank(user=103, items=[1000, 1001, 1002])}
    assert list(answer.columns) == ["rank", "item", "title", "like", "share", "log watch"]
    assert answer.like.tolist() == sorted(answer.like, reverse=True)
    for row in answer.to_dict("records"):
        assert row["like"] == called[row["item"]].actions["like"]
    with pytest.warns(UserWarning, match="9999"):
        assert len(joint.rank(103, [1000, 9999])) == 1


def test_a_joint_run_recommends_with_both_stages_and_says_why(joint: louder.TrainedRun) -> None:
    answer = joint.recommend(users=[103, 104], k=3)
    assert {"next", "like", "share"} < set(answer.columns)
    why = joint.explain(103, k=2, events=1)
    called = louder.load(joint.path).recommend(user=103, k=2)
    assert why.item.tolist() == [x.item for x in called]
    assert why.score.tolist() == pytest.approx([x.score for x in called])


def test_only_a_run_that_ranks_needs_candidates(joint: louder.TrainedRun) -> None:
    with pytest.raises(louder.InputError, match=r"Give at least one item: items=\[1, 2, 3\]\."):
        joint.rank(103, [])
