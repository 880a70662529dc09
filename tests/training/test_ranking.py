"""A whole ranking run: what it measures is what anybody measures of its predictions."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score
from tables import events, ranking_table, tiny_config, tiny_ranking_config, write_ranking_table, write_table

from louder.cli.show import print_results
from louder.data.attributes import encode
from louder.data.config import DataConfig
from louder.data.counters import count
from louder.data.ranking import RankingLoader
from louder.data.table import open_table, read_attributes
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.evaluation.ranking_metrics import RankingMetrics
from louder.inference.run import Run
from louder.models import DLRMConfig, HSTUConfig, RankingConfig
from louder.results import read_rows
from louder.schema import ENGAGEMENT
from louder.training.config import EvaluationConfig
from louder.training.loop import train
from louder.training.ranking import RankingTask, open_ranking_table
from louder.training.tasks import evaluate_run

ITEMS, MISSED = 20, 201  # the rank of an item that is left out is beyond every cutoff
DLRM = DLRMConfig(width=4, unit_hidden=4, counter_hidden=4, expert_hidden=(8,), tower_hidden=4)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Requests, values, a series and attributes; half of the people have more events than a window."""
    folder = tmp_path_factory.mktemp("log") / "table"
    return write_ranking_table(folder, ranking_table(1, requests="contiguous", users=30, longest=20, items=ITEMS))


def config_of(kind, log):
    if kind == "hstu":
        return tiny_ranking_config(log)
    if kind == "cross":
        return tiny_ranking_config(log, cross_layers=2, cross_width=4, item_counters=True)
    return tiny_ranking_config(log, DLRM, next_item=0.0)


@pytest.fixture(scope="module")
def runs(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for kind in "hstu", "cross", "dlrm":
        config = config_of(kind, log)
        train(replace(config, training=replace(config.training, learning_rate=0.02)), folder / kind, quiet=True)
    return folder


def one_at_a_time(log, part="test", *, items_alone=False):
    """Each exposure of a part by itself, after what came before its request."""
    table = open_table(log, values=["watch"], requests=True)
    table.values["watch"] = np.log1p(table.values["watch"])
    counters, names = count(table, encode(read_attributes(log, "items"), ["genres"]))
    if items_alone:
        counters = counters[:, [name.startswith("item.") for name in names]]
    return RankingLoader(
        table,
        part,
        DataConfig(max_len=8, users_per_batch=1, shuffle=False),
        held_out=2,
        one_pass=False,
        context=encode(read_attributes(log, "users"), ["age"]),
        counters=counters,
    )


@pytest.fixture(scope="module")
def predictions(log, runs):
    """kind -> probabilities [M, 2], labels [M, 2], users [M], requests [M], numbers [M], true numbers [M]"""

    def of(kind):
        model = Run.open(runs / kind).ranker()
        loader, found = one_at_a_time(log, items_alone=kind == "cross"), []
        for batch in loader.batches():
            with torch.no_grad():
                logits, numbers = model(batch)
            (row,) = batch.rows.tolist()
            actions, watched = loader.table.actions[row], loader.table.values["watch"][row]
            labels = [actions & 1, actions >> 1]
            user = np.searchsorted(loader.table.offsets, row, side="right") - 1
            request = loader.table.requests[row]
            found.append((logits.sigmoid()[0].tolist(), labels, user, request, numbers.item(), watched))
        return [np.array(column) for column in zip(*found)]

    return {kind: of(kind) for kind in ("hstu", "cross", "dlrm")}


def grouped_auc(labels, probabilities, groups):
    """The AUC of each group that has both kinds, weighted by its size."""
    aucs, weights = [], []
    for group in np.unique(groups):
        own = groups == group
        if len(set(labels[own])) == 2:
            aucs.append(roc_auc_score(labels[own], probabilities[own]))
            weights.append(own.sum())
    return np.average(aucs, weights=weights)


@pytest.mark.parametrize("kind", ["hstu", "cross", "dlrm"])
def test_metrics_are_those_of_the_predictions(kind, runs, predictions):
    probabilities, labels, users, requests, numbers, watched = predictions[kind]
    report = evaluate_run(runs / kind)
    assert (report["task"], report["part"], report["protocol"], report["main"]) == (
        "ranking",
        "test",
        "validated",
        "like",
    )
    assert report["impressions"] == len(labels) > 30
    for j, name in enumerate(["like", "share"]):
        found, true, likely = report["actions"][name], labels[:, j], probabilities[:, j]
        share = true.mean()
        loss = log_loss(true, likely)
        expected = {
            "log_loss": loss,
            "ne": loss / -(share * np.log(share) + (1 - share) * np.log(1 - share)),
            "auc": roc_auc_score(true, likely),
            "gauc_user": grouped_auc(true, likely, users),
            "gauc_request": grouped_auc(true, likely, users * 10_000 + requests),
            "calibration": likely.mean() / share,
        }
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-5)
        assert found["positives"] == true.sum()
    there = ~np.isnan(watched)
    values = report["values"]["log watch"]
    assert values["rmse"] == pytest.approx(mean_squared_error(watched[there], numbers[there]) ** 0.5, abs=1e-5)
    assert values["mae"] == pytest.approx(mean_absolute_error(watched[there], numbers[there]), abs=1e-5)
    assert values["count"] == there.sum() < len(there)


@pytest.mark.parametrize("seen", ["window", "none"])
def test_the_next_item_is_ranked_after_the_event_before_its_request(seen, log, runs):
    """Each by itself: the state at the last event before the request against every item, or those that are new."""
    model = Run.open(runs / "hstu").ranker()
    ranks, asked_before = [], -1
    for batch in one_at_a_time(log).batches():
        sequences, asked = batch.sequences, int(batch.target_positions)
        user_is_new, asked_before = int(batch.users) != asked_before, int(batch.users)
        before = [row for row in range(asked) if sequences.kinds[row] == ENGAGEMENT]
        if not user_is_new or not before:  # not the first of its request, or nothing to tell it from
            continue
        with torch.no_grad():
            tokens = model.tokens(sequences)
            state = model.next_item_states(model.states(tokens), tokens.actions[before[-1:]])
            scores = (model.item_vectors() @ state[0]).tolist()
        target = int(sequences.ids[asked])
        left_out = set(sequences.ids[before].tolist()) if seen == "window" else set()
        higher = {item for item in range(ITEMS) if scores[item] > scores[target]}
        ranks.append(MISSED if target in left_out else 1 + len(higher - left_out))
    ranks = np.array(ranks)
    report = evaluate_run(runs / "hstu", seen=seen)["next_item"]
    assert report["targets"] == len(ranks) > 15
    assert (MISSED in ranks) == (seen == "window")
    assert report["hr@10"] == pytest.approx((ranks <= 10).mean())
    assert report["mrr"] == pytest.approx((1 / ranks).mean(), abs=1e-6)
    assert "next_item" not in evaluate_run(runs / "dlrm", seen=seen)


def test_what_is_beyond_the_window_is_not_known_so_it_cannot_be_left_out(runs):
    with pytest.raises(InputError, match=r"evaluation\.seen is 'history', but .*: choose window or none"):
        evaluate_run(runs / "hstu", seen="history")


@pytest.mark.parametrize("kind", ["hstu", "cross", "dlrm"])
def test_the_log_and_the_result_hold_what_is_measured(kind, runs):
    report, written = evaluate_run(runs / kind), json.loads((runs / kind / "metrics.json").read_text())
    assert report == {name: written[name] for name in report}
    validation = evaluate_run(runs / kind, part="validation")
    rows = [row for row in read_rows(runs / kind / "log.jsonl") if row["kind"] == "epoch"]
    best = rows[report["epoch"]]
    assert best["part"] == "validation"
    assert best["like.ne"] == pytest.approx(validation["actions"]["like"]["ne"], abs=1e-6)
    assert best["log watch.rmse"] == pytest.approx(validation["values"]["log watch"]["rmse"], abs=1e-6)
    assert best["like.ne"] == min(row["like.ne"] for row in rows)


def test_both_kinds_of_models_are_asked_for_the_same_exposures(runs):
    reports = [evaluate_run(runs / kind)["actions"] for kind in ("hstu", "dlrm")]
    for name in "like", "share":
        assert len({(report[name]["impressions"], report[name]["positives"]) for report in reports}) == 1


def test_one_pass_and_a_pass_for_each_exposure_have_the_same_loss_and_gradient(log):
    results = []
    for one_pass in True, False:
        config = tiny_ranking_config(log, next_item=0.0, one_pass=one_pass, attribute_dropout=0.0)
        config = replace(config, data=replace(config.data, users_per_batch=10_000))
        task = RankingTask(config, open_ranking_table(config))
        torch.manual_seed(0)
        model = task.build().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        (batch,) = task.loader.batches()
        loss = task.loss(model, batch, torch.device("cpu"))
        loss.backward()
        gradients = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
        results.append((len(batch.target_positions), len(batch.sequences.ids), loss.detach(), gradients))
    (asked, tokens, loss, gradients), (asked_each, tokens_each, loss_each, gradients_each) = results
    assert asked == asked_each > 100
    assert tokens < tokens_each / 2
    torch.testing.assert_close(loss, loss_each)
    assert loss > 0.5
    torch.testing.assert_close(gradients, gradients_each, atol=1e-5, rtol=1e-4)


def task_of(log, **changes):
    config = tiny_ranking_config(log, attribute_dropout=0.0, **changes)
    return RankingTask(config, open_ranking_table(config))


def loss_of(task, batch):
    torch.manual_seed(0)
    model = task.build().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.manual_seed(1)  # of the negatives
    return model, task.loss(model, batch, torch.device("cpu")).item()


def test_the_loss_is_the_sum_over_actions_the_weighted_values_and_the_weighted_next_item(log):
    task = task_of(log, next_item=0.0, value_weight=0.0)
    batch = next(task.loader.batches())
    model, actions = loss_of(task, batch)
    with torch.no_grad():
        tokens = model.tokens(batch.sequences)
        states = model.states(tokens)
        logits, values = (x.double() for x in model.predict(states[tokens.items[batch.target_positions]]))
    likely = logits.sigmoid()
    expected = -(batch.labels * likely.log() + (1 - batch.labels) * (1 - likely).log()).sum() / len(logits)
    assert actions == pytest.approx(expected.item(), rel=1e-5)

    _, with_values = loss_of(task_of(log, next_item=0.0, value_weight=0.3), batch)
    errors = ((values - batch.value_targets) / model.value_scale)[~batch.value_targets.isnan()]
    assert 0 < len(errors) < values.numel()  # one that is absent counts as no error
    assert with_values - actions == pytest.approx(0.3 * errors.square().sum().item() / len(values), rel=1e-4)

    joint = task_of(log, next_item=0.4, value_weight=0.0)
    _, with_next_item = loss_of(joint, batch)
    (rows,) = torch.where(batch.next_items >= 0)
    with torch.no_grad():
        after = model.next_item_states(states, tokens.actions[rows])
        torch.manual_seed(1)
        next_item = joint.retrieval(after, model.item_vectors(), batch.next_items[rows]).item()
    assert next_item > 0.1
    assert with_next_item - actions == pytest.approx(0.4 * next_item, rel=1e-4)


def test_impressions_have_the_same_loss_of_actions_and_values(log):
    config = replace(config_of("dlrm", log), model=replace(DLRM, dropout=0.0))
    task = RankingTask(config, open_ranking_table(config))
    batch = next(task.loader.batches())
    model, found = loss_of(task, batch)
    with torch.no_grad():
        logits, values = model(batch)
    error = ((values - batch.value_targets) / model.value_scale).nan_to_num(0)
    log_loss_ = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum")
    expected = (log_loss_ + 0.1 * error.square().sum()) / len(logits)
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_that_asks_for_nothing_has_the_loss_zero(log):
    task = task_of(log, next_item=0.0)
    batch = next(task.loader.batches())
    nothing = replace(
        batch,
        target_positions=batch.target_positions[:0],
        labels=batch.labels[:0],
        value_targets=batch.value_targets[:0],
        rows=batch.rows[:0],
    )
    assert loss_of(task, nothing)[1] == 0


@pytest.mark.parametrize("kind", ["hstu", "dlrm"])
def test_the_scale_of_a_value_is_of_what_training_asks_for(kind, log):
    """after log(1 + x), where that is asked for; values that are absent count for nothing"""
    config = config_of(kind, log)
    task = RankingTask(config, open_ranking_table(config))
    asked = np.concatenate([batch.rows.numpy() for batch in task.loader.batches()])
    assert len(asked) < len(task.table.ids)
    watched = np.log1p(open_table(log, values=["watch"]).values["watch"][asked].astype(np.float64))
    watched = watched[~np.isnan(watched)]
    model = task.build()
    assert model.value_mean.item() == pytest.approx(watched.mean(), rel=1e-5)
    assert model.value_scale.item() == pytest.approx(watched.std(), rel=1e-4)


def test_negatives_of_the_next_item_are_as_popular_as_what_training_asks_for(log):
    task = task_of(log)
    counts = np.zeros(ITEMS)
    for batch in task.loader.batches():
        np.add.at(counts, task.table.ids[batch.rows.numpy()], 1)
    share = (counts + 1) / (counts + 1).sum()
    np.testing.assert_allclose(task.retrieval.cumulative.numpy(), share.cumsum())


# --- louder evaluate ---------------------------------------------------------------------------------------------


def tables_of(out):
    """heading of the first column -> {first cell: the other cells}, the heading's row among them"""
    tables = {}
    for block in out.split("\n\n"):
        lines = [line for line in block.splitlines() if "─" not in line]
        head, *rows = ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines)
        tables[head[0]] = {cells[0]: cells[1:] for cells in [head, *rows]}
    return tables


def test_runs_are_shown_beside_each_other(louder, runs):
    code, out, _ = louder("evaluate", runs / "hstu", runs / "dlrm", "--json")
    hstu, _ = results = json.loads(out)
    code, out, _ = louder("evaluate", runs / "hstu", runs / "dlrm")
    assert code == 0
    like, share = ([result["actions"][name] for result in results] for name in ("like", "share"))
    exposures, likes = like[0]["impressions"], like[0]["positives"]
    assert out.splitlines()[0] == (f"test: {exposures} exposures, like in {likes / exposures:.1%}; protocol validated")
    tables = tables_of(out)
    names = "1 tiny-rank", "2 tiny-rank"  # two runs of one name
    for name, metrics in zip(names, like):
        keys = "ne", "auc", "gauc_user", "log_loss", "calibration"
        assert tables["like"][name] == [f"{metrics[key]:.4f}" for key in keys]
    assert tables["like"]["like"] == ["NE", "AUC", "GAUC", "log-loss", "calibration"]
    assert tables["other actions"]["other actions"] == ["share", "NE 1", "AUC 1", "NE 2", "AUC 2"]
    numbers = [f"{metrics[key]:.4f}" for metrics in share for key in ("ne", "auc")]
    assert tables["other actions"]["share"] == [f"{share[0]['positives'] / exposures:.1%}", *numbers]
    errors = [f"{result['values']['log watch']['rmse']:.4f}" for result in results]
    assert tables["values"] == {"values": ["RMSE 1", "RMSE 2"], "log watch": errors}
    assert tables["next item"][names[0]] == [
        f"{hstu['next_item'][key]:.4f}" for key in tables["next item"]["next item"]
    ]
    assert names[1] not in tables["next item"]
    for name, result in zip(names, results):
        flops = f"{result['flops_per_exposure']:,.0f}"
        assert tables["run"][name] == ["42", str(result["epoch"] + 1), f"{result['parameters']:,}", flops]


def test_a_run_by_itself_needs_no_numbers(louder, runs):
    _, out, _ = louder("evaluate", runs / "dlrm", "--part", "validation")
    assert out.startswith("validation: ")
    tables = tables_of(out)
    assert tables["other actions"]["other actions"] == ["share", "NE", "AUC"]
    assert set(tables["run"]) == {"run", "tiny-rank"}
    assert "next item" not in tables


def report_of(run, protocol="validated"):
    """What eight actions and a value of 5,000 exposures may be measured as; nobody hates."""
    draw = np.random.default_rng(len(run))
    actions = ["click", "like", "follow", "comment", "forward", "hate", "long_view", "profile_enter"]
    metrics = RankingMetrics(actions, ["log play_time_ms"])
    labels = draw.random((5000, 8)) < [0.5, 0.02, 0.01, 0.01, 0.01, 0, 0.3, 0.05]
    metrics.update(draw.random((5000, 8)), labels, draw.integers(300, size=5000), None, *draw.random((2, 5000, 1)))
    about = {"run": run, "protocol": protocol, "part": "test", "main": "long_view", "seed": 42, "epoch": 11}
    return about | {"parameters": 123_456_789, "flops_per_exposure": 1e10} | metrics.report()


def test_eight_actions_of_four_runs_fit_in_100_columns(capsys):
    print_results([report_of(f"kuairand-rank-{model}") for model in ("hstu", "transformer", "dlrm", "wukong")])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert len(out.splitlines()) <= 40
    tables = tables_of(out)
    assert list(tables)[1:] == ["long_view", "other actions", "values", "run"]
    assert tables["other actions"]["hate"] == ["0.0%", *["–"] * 8]
    assert tables["run"]["2 kuairand-rank-transformer"] == ["42", "12", "123,456,789", "10,000,000,000"]


def test_the_protocols_never_share_a_table(capsys):
    print_results([report_of("a"), report_of("b", "official"), report_of("c")])
    first, second = capsys.readouterr().out.split("\n\ntest: ")
    assert set(tables_of(first)["long_view"]) == {"long_view", "1 a", "2 c"}
    assert set(tables_of("test: " + second)["long_view"]) == {"long_view", "b"}
    assert second.splitlines()[0].endswith("protocol official")


# --- what does not fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"main": "buy"}, "ranking.main is 'buy', but the actions are like, share"),
        ({"log_values": ("price",)}, "ranking.log_values names 'price', but the values are: watch"),
        ({"context": ("agee",)}, "There is no attribute 'agee'; there are age. Did you mean 'age'"),
        ({"item_attributes": ("brand",)}, "There is no attribute 'brand'; there are title, genres"),
    ],
    ids=str,
)
def test_a_name_that_the_table_does_not_have_is_told_and_leaves_no_run(changes, message, log, tmp_path):
    config = tiny_ranking_config(log)
    config = replace(config, model=replace(config.model, max_len=20), ranking=replace(config.ranking, **changes))
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def plain_config(table, **ranking):
    """Of a log with nothing but actions."""
    return tiny_config(
        table,
        data=DataConfig(table=str(table), max_len=6),
        ranking=RankingConfig(**ranking),
        evaluation=EvaluationConfig(select="ne"),
    )


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ({"context": ("age",)}, r"ranking\.context names age, .* without attributes of users.*ranking\.context=\[\]"),
        ({"item_attributes": ("tag",)}, r"ranking\.item_attributes names tag, .* without attributes of items.*--items"),
        ({"log_values": ("watch",)}, "the values are: none"),
    ],
    ids=str,
)
def test_a_log_without_attributes_or_values_is_told(ranking, message, tmp_path):
    config = plain_config(write_table(tmp_path / "t", [events(0, 1, 2)] * 3, actions=["like"]), **ranking)
    with pytest.raises(InputError, match=message):
        RankingTask(config, open_ranking_table(config))


def test_a_log_without_actions_has_nothing_to_rank_by(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2)] * 3)
    with pytest.raises(InputError, match="t has no actions, so there is nothing to rank by"):
        open_ranking_table(plain_config(table))


def test_a_config_without_a_table_is_told():
    with pytest.raises(InputError, match=r"The config names no table\. Pass --table FOLDER"):
        open_ranking_table(plain_config(""))


def test_a_log_without_times_has_no_bias_by_time(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2, gap=1)] * 3, actions=["like"], has_times=False)
    with pytest.raises(InputError, match=r"has no times, .*--set model\.time_bias=false"):
        open_ranking_table(plain_config(table))
    without = HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=16, time_bias=False)
    assert open_ranking_table(replace(plain_config(table), model=without)).users == 3


def test_a_part_without_exposures_is_told(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2)] * 3, actions=["like"])
    split = SplitConfig(kind="time", validation_from=60, test_from=2000)
    config = plain_config(table)
    config = replace(config, data=replace(config.data, split=split))
    with pytest.raises(InputError, match="t has no exposures in the test part under protocol 'validated'"):
        RankingTask(config, open_ranking_table(config))


def test_labels_that_are_all_alike_cannot_choose_an_epoch(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2)] * 3, actions=["like"])
    with pytest.raises(InputError, match="The validation part has no ne of 'like': all its labels are alike"):
        train(plain_config(table), tmp_path / "run", quiet=True)


def test_a_run_is_not_measured_on_a_table_of_other_items_or_actions(runs, tmp_path):
    other = write_ranking_table(tmp_path / "other", ranking_table(1, users=30, longest=20, items=ITEMS + 1))
    with pytest.raises(InputError, match=r"other has grown since .* was made: it has 21 items"):
        evaluate_run(runs / "hstu", table=str(other))


def test_under_the_official_protocol_there_is_no_validation(log, tmp_path):
    config = replace(tiny_ranking_config(log), protocol="official")
    train(replace(config, training=replace(config.training, epochs=1)), tmp_path / "run", quiet=True)
    assert evaluate_run(tmp_path / "run")["protocol"] == "official"
    with pytest.raises(InputError, match=r"'official', which keeps no validation part\. Use --part test"):
        evaluate_run(tmp_path / "run", part="validation")


def test_a_checkpoint_ranks_by_the_attributes_it_was_trained_with(log, runs):
    """A table that was made again with other genres gives them other codes, which the model must not read."""
    before = evaluate_run(runs / "hstu")
    kept = (log / "items.parquet").read_bytes()
    try:
        pq.write_table(pa.table({"title": [""] * ITEMS, "genres": [["other"]] * ITEMS}), log / "items.parquet")
        assert evaluate_run(runs / "hstu") == before
    finally:
        (log / "items.parquet").write_bytes(kept)
