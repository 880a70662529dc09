"""Items that come and go in a stream: who is seen often enough can be foretold and recommended, and who left can not."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from runs import untrained_run
from tables import (
    Token,
    random_users,
    ranking_table,
    tiny_config,
    tiny_ranking_config,
    write_ranking_table,
    write_table,
)

from louder import checkpoint
from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.histories import Arrival, History, Names
from louder.ids import IdMap
from louder.inference.request import Request
from louder.inference.run import Run
from louder.models.embeddings import DynamicTable
from louder.online.items import Items, fitted
from louder.online.measure import before
from louder.online.publisher import Publisher
from louder.publishing import current_version
from louder.publishing.chain import read_version, state_of
from louder.publishing.live import open_version, prepare, take
from tests.online.streams import FAST, START, arrivals, learnt, require_equal, rows, write_log

ITEMS = 15
WINDOW = FAST.window_s


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    users = random_users(20, items=ITEMS, longest=12, actions=2)
    return write_table(tmp_path_factory.mktemp("table") / "t", users, items=ITEMS, actions=["like", "share"])


def coming(budget=ITEMS + 2, **given):
    return replace(FAST, **{"item_budget": budget, "item_admit_at": 2.0} | given)


def log_of(folder, windows):
    """Each window's items, of users 1, 2, ... in turn, ten seconds apart."""
    users = [[] for _ in range(5)]
    for number, items in enumerate(windows):
        for place, item in enumerate(items):
            users[place % 5].append(Token(item, number * WINDOW + 10 * place, actions=1))
    return write_log(folder, arrivals(users))


def items_of(stream):
    return [row["items"] for row in rows(stream)]


def test_a_new_item_comes_with_its_second_event_and_is_foretold_from_then_on(table, tmp_path):
    log = log_of(tmp_path / "log", [[1, 2, 3, 4, 5, 99, 99], [6, 7, 99, 1, 2, 3], [1, 99]])
    run = untrained_run(tiny_config(table), tmp_path / "run")
    learnt(run, log, tmp_path / "s", coming())
    found = rows(tmp_path / "s")
    assert [(x["came"], x["left"], x["there"]) for x in items_of(tmp_path / "s")] == [
        (1, 0, 16),
        (0, 0, 16),
        (0, 0, 16),
    ]
    # it is not known where it is tested first, and known to the versions after
    assert [row["unknown"] for row in found] == [2, 0, 0]
    opened = Run.open(tmp_path / "s")
    (slot,) = opened.item_ids.ids([1099])
    assert slot == ITEMS and opened.vocabulary.dynamic
    model = opened.sequential()
    assert model.item_vectors().shape[0] == len(opened.item_ids) == ITEMS + 2
    began = Run.open(run).sequential()
    vectors = model.events.items.weight
    assert not torch.equal(vectors[:ITEMS], began.events.items.weight)
    moments = checkpoint.load_tensors(opened.folder, "optimizer")
    assert moments["events.items.weight.exp_avg"].shape == vectors.shape
    assert moments["events.items.weight.exp_avg"][slot].any()
    assert not moments["events.items.weight.exp_avg"][slot + 1].any()  # a slot that nobody has
    assert moments["stream.targets"][slot] > 0


def test_beyond_the_budget_the_best_stay_and_what_left_is_new_again(table, tmp_path):
    """Each item of the run counts 2, and 3 with its event in the first window. A new one takes a slot with its fourth event:
    that of the item which was seen first."""
    log = log_of(tmp_path / "log", [range(ITEMS), [99, 99, 99, 5, 5], [0, 99], [1, 1, 1, 2]])
    learnt(untrained_run(tiny_config(table), tmp_path / "run"), log, tmp_path / "s", coming(ITEMS))
    assert [(x["came"], x["left"]) for x in items_of(tmp_path / "s")] == [(0, 0), (0, 0), (1, 1), (0, 0)]
    assert [row["unknown"] for row in rows(tmp_path / "s")] == [0, 3, 1, 3]
    ids = Run.open(tmp_path / "s").item_ids
    assert ids.ids([1000, 1001, 1099, 1002]).tolist() == [0, -1, 1, 2]


def test_an_item_that_is_not_seen_for_long_leaves_and_its_number_is_nobodys(table, tmp_path):
    log = log_of(tmp_path / "log", [[1, 2, 3], [1, 2, 3], [1, 2, 3, 4]])
    learnt(untrained_run(tiny_config(table), tmp_path / "run"), log, tmp_path / "s", coming(item_max_age_s=WINDOW))
    counts = items_of(tmp_path / "s")
    assert (counts[-1]["there"], sum(x["left"] for x in counts)) == (3, ITEMS - 3)
    ids = Run.open(tmp_path / "s").item_ids
    assert sorted(x for x in ids.raw.to_pylist() if x is not None) == [1001, 1002, 1003]
    assert ids.ids([1001, 1004]).tolist() == [1, -1]
    assert all(torch.tensor(row["loss"] or 0.0).isfinite() for row in rows(tmp_path / "s"))


def test_a_stream_that_stops_after_each_window_ends_with_the_same_bits(table, tmp_path):
    new = [[1, 2, 90, 90], [91, 91, 91, 3, 4], [5, 6, 92, 92, 92, 92, 1], [90, 90, 90, 2]]
    log = log_of(tmp_path / "log", new)
    settings = coming(ITEMS + 1, item_max_age_s=3 * WINDOW)
    run = untrained_run(tiny_config(table), tmp_path / "run")
    learnt(run, log, tmp_path / "whole", settings)
    for _ in range(len(new)):
        learnt(run, log, tmp_path / "parts", settings, windows=1)
    require_equal(tmp_path / "whole", tmp_path / "parts")
    assert sum(x["came"] for x in items_of(tmp_path / "whole")) > 1
    assert sum(x["left"] for x in items_of(tmp_path / "whole")) > 0


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise_adamw"])
def test_while_nobody_comes_all_bits_are_those_of_a_fixed_vocabulary(table, tmp_path, optimizer):
    log = log_of(tmp_path / "log", [[1, 2, 3, 4, 5, 6, 7], [6, 7, 8, 1, 2, 3]])
    changes = [f"training.embedding_optimizer={optimizer}"]
    weights = []
    for name, settings in ("fixed", FAST), ("coming", coming(ITEMS)):
        learnt(tiny_config(table), log, tmp_path / name, settings, changes=changes)
        weights.append(checkpoint.load_tensors(checkpoint.latest(tmp_path / name), "model"))
    assert weights[1].pop("events.items.new").any()
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_what_does_not_go_with_coming_items_is_one_sentence(table, tmp_path):
    log = log_of(tmp_path / "log", [[1, 2]])
    with pytest.raises(InputError, match=r"run has 15 items: --set stream\.item_budget=30"):
        learnt(tiny_config(table), log, tmp_path / "a", coming(ITEMS - 1))
    with pytest.raises(InputError, match="no average"):
        learnt(tiny_config(table), log, tmp_path / "b", coming(), changes=["training.ema_decay=0.9"])
    with pytest.raises(InputError, match="item_evict"):
        coming(item_evict="lru")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    learnt(tiny_config(table), log, tmp_path / "c", coming())
    with pytest.raises(InputError, match="come and go"):
        learnt(tmp_path / "c", log, tmp_path / "d")
    learnt(tmp_path / "c", log, tmp_path / "d", coming())


def joint(tmp_path, **changes):
    log = ranking_table(3, requests="contiguous", series=False, users=12, longest=20, items=9)
    table = write_ranking_table(tmp_path / "t", replace(log, times=log.times + START))
    config = tiny_ranking_config(table)
    return replace(config, ranking=replace(config.ranking, **{"item_attributes": (), "item_vectors": ()} | changes))


def test_a_joint_model_asks_what_was_done_with_a_new_item_before_it_comes(tmp_path):
    """Two events of an item that nobody knew: what was done with it is asked from the first on, and it is foretold once it
    came."""
    config = joint(tmp_path)
    events = [
        Arrival(100 + user, f"{user}-{number}", item, START + number * WINDOW + 10 * user, ("like",))
        for number, item in enumerate([1077, 1077, 1077])
        for user in (0, 1)
    ]
    events += [Arrival(102, f"2-{number}", 1001, START + number * WINDOW + 50, ()) for number in range(3)]
    log = write_log(tmp_path / "log", sorted(events, key=lambda event: event.time))
    learnt(config, log, tmp_path / "s", coming(10, item_admit_at=3.0))
    found = rows(tmp_path / "s")
    assert [(row["items"]["came"], row["unknown"], row["ranking"]["impressions"]) for row in found] == [
        (0, 2, 3),
        (1, 2, 3),
        (0, 0, 3),
    ]
    assert found[2]["next_item"]["events"] > found[0]["next_item"]["events"]
    opened = Run.open(tmp_path / "s")
    assert opened.item_ids.ids([1077]).tolist() == [9]
    began = checkpoint.load_tensors(Run.open(tmp_path / "s").folder, "optimizer")
    assert began["backbone.events.items.new.exp_avg"].any()  # the shared vector has learnt from it


def test_a_model_that_reads_attributes_keeps_its_items(tmp_path):
    config = joint(tmp_path, item_attributes=("genres",))
    with pytest.raises(InputError, match="reads attributes of items"):
        learnt(config, write_log(tmp_path / "log", []), tmp_path / "s", coming(30))


def test_versions_follow_items_that_come_and_go(table, tmp_path):
    """Published each window: a service that takes a delta recommends who came, and not who left, as one that begins with it."""
    new = [[1, 2, 3, 90, 90], [91, 91, 91, 1, 2], [1, 90, 2, 91, 92, 92, 92]]
    log = log_of(tmp_path / "log", new)
    settings = coming(ITEMS + 1, item_max_age_s=2 * WINDOW)
    publish = Publisher(tmp_path / "live")
    run = untrained_run(tiny_config(table), tmp_path / "run")
    learnt(run, log, tmp_path / "s", settings, publish=publish)
    assert all(row["published"] for row in rows(tmp_path / "s"))
    version = state_of(current_version(tmp_path / "live"))
    opened = Run.open(tmp_path / "s")
    assert version.raws["item"].equals(opened.item_ids.raw)
    there = {raw for raw in opened.item_ids.raw.to_pylist() if raw is not None}
    assert {1001, 1090, 1091, 1092} <= there
    for name, value in opened.sequential().state_dict().items():
        assert torch.equal(value, version.weights[name]), name
    history = History(
        items=np.array([1090, 4444, 1002]),
        times=START + np.arange(3),
        actions=np.zeros(3, np.int64),
        values=np.zeros((3, 0), np.float32),
        requests=np.full(3, -1),
        names=Names(("like", "share"), ()),
    )
    first, last = (read_version(tmp_path / "live", number) for number in (1, 2))
    assert (first.kind, last.kind) == ("base", "delta")
    there = {raw for raw in state_of(last).raws["item"].to_pylist() if raw is not None}
    assert not there >= {raw for raw in state_of(first).raws["item"].to_pylist() if raw is not None}
    followed, anew = open_version(first, table=table), open_version(last, table=table)
    take(followed, prepare(followed, first, last))
    answers = []
    for engine in followed, anew:
        found = engine.recommend(Request(history=history, k=50))
        answers.append((engine.catalogue.item_ids.raws(found.items), found.scores.tolist()))
    assert answers[0] == answers[1]
    assert set(answers[0][0]) == there - {1090, 1002}


def test_a_version_from_before_items_came_knows_them_as_new():
    model = torch.nn.Module()
    model.items = DynamicTable(5, 2)
    weights = {"items.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    found = fitted(weights, model)
    assert found["items.weight"].tolist() == [[1, 2], [3, 4], [2, 3], [2, 3], [2, 3]]
    model.load_state_dict(found)
    again = fitted(weights | {"items.new": torch.tensor([[9.0, 9.0]])}, model)
    assert again["items.weight"][2:].tolist() == [[9, 9]] * 3


def test_new_items_of_a_history_hide_no_item_from_the_ranks():
    ids = torch.tensor([-1, 2, -1])
    batch = SequenceBatch(ids=ids, offsets=torch.tensor([0, 3]), timestamps=ids, query_timestamps=ids)
    row, item = before(batch, torch.tensor([0, 2]))
    assert (row.tolist(), item.tolist()) == ([1], [2])


def test_attributes_of_items_stand_where_their_slots_are(tmp_path):
    began, later = tmp_path / "began", tmp_path / "later"
    for folder in began, later:
        IdMap(pa.array([10, 11, 12])).write(folder / "vocabulary" / "item.parquet")
    pq.write_table(pa.table({"title": ["a", "b", "c"]}), began / "items.parquet")
    os.link(began / "items.parquet", later / "items.parquet")
    items = Items.__new__(Items)
    items.ids = IdMap(pa.array([12, None, 99, 10]))
    items.write(later, began)
    assert pq.read_table(later / "items.parquet")["title"].to_pylist() == ["c", None, None, "a"]
    assert IdMap.read(later / "vocabulary" / "item.parquet").raw.to_pylist() == [12, None, 99, 10]
    assert pq.read_table(began / "items.parquet")["title"].to_pylist() == ["a", "b", "c"]
