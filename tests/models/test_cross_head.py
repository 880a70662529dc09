"""The head beside a ranker's own: off by default, nothing at first, and each exposure by itself."""

from dataclasses import replace

import pytest
import torch
from tables import ranking_table, tiny_ranking_config, write_ranking_table

from louder.config import from_dict, override, to_dict
from louder.data.item_counts import ItemCounts
from louder.errors import InputError
from louder.inference.precision import reduced
from louder.models import DLRMConfig, HSTUConfig, RankingConfig, Vocabulary, build_ranker
from louder.models.cross import Beside, CrossHead
from louder.online.learner import require_streamable
from louder.training import tables
from louder.training.optimizers import make_optimizers, update
from louder.training.ranking import RankingTask, open_ranking_table

CROSS = {"cross_layers": 2, "cross_width": 4, "item_counters": True}
ITEMS = 20


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    table = ranking_table(1, requests="contiguous", users=30, longest=20, items=ITEMS)
    return write_ranking_table(tmp_path_factory.mktemp("log") / "table", table)


def task_of(log, **ranking):
    config = tiny_ranking_config(log, **ranking)
    return RankingTask(config, open_ranking_table(config))


def drawn(model, std=0.4):
    """Far from zero, so that all that is read shows."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def test_it_is_off_by_default_and_settings_of_before_are_read():
    old = {name: value for name, value in to_dict(RankingConfig()).items() if name not in CROSS}
    assert from_dict(RankingConfig, old) == RankingConfig()
    model = build_ranker(
        HSTUConfig(width=8, qk_width=8, v_width=8), RankingConfig(), Vocabulary(items=3, actions=1), []
    )
    assert model.cross is None
    assert not [name for name in model.state_dict() if name.startswith("cross")]


def test_a_ranker_begins_as_what_it_is_without(log):
    plain, crossed = task_of(log), task_of(log, **CROSS)
    one, other = plain.build().eval(), crossed.build().eval()
    missing, unexpected = other.load_state_dict(one.state_dict(), strict=False)
    assert missing and all(name.startswith("cross.") for name in missing) and not unexpected
    batch = next(crossed.loader.batches())
    assert batch.counters.shape == (len(batch.target_positions), 1 + 2 * 2)
    with torch.no_grad():
        for found, expected in zip(other(batch), one(replace(batch, counters=None))):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("counters", [0, 5])
def test_its_numbers_are_those_of_the_equations(counters):
    torch.manual_seed(0)
    head = CrossHead(6, users=True, counters=counters, tasks=3, size=4, layers=2)
    drawn(head)
    M = 7
    states, items, users = (torch.randn(M, 6) for _ in range(3))
    counted = torch.randn(M, counters) if counters else None
    found = head(states, Beside(items, users, counted))
    parts = [head.state(states), head.item(items), head.user(users)]
    if counters:
        first, _, _, second = head.counters
        shares = (counted - head.norm.mean) / (head.norm.variance.sqrt() + 1e-6)
        parts.append(torch.relu(shares.clamp(-10, 10) @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    x0 = x = torch.cat(parts, 1)
    for layer in head.crosses:
        x = x0 * (x @ layer.linear.weight.T + layer.linear.bias) + x  # equation 1 of DCN-v2
    torch.testing.assert_close(found, head.out(x))
    assert found.shape == (M, 3)


def test_every_part_is_read_and_an_exposure_reads_its_own(log):
    task = task_of(log, **CROSS)
    model, batch = drawn(task.build()), next(task.loader.batches())
    with torch.no_grad():
        before, _ = model(batch)
        counters = batch.counters.clone()
        counters[3] += 1
        after, _ = model(replace(batch, counters=counters))
    changed = (before != after).any(1)
    assert changed.nonzero().flatten().tolist() == [3]
    beside = [torch.randn(4, model.backbone.config.width) for _ in range(2)] + [torch.randn(4, 5)]
    states = torch.randn(4, model.backbone.config.width)
    with torch.no_grad():
        whole = model.cross(states, Beside(*beside))
        for n in range(3):
            other = [part + (number == n) * torch.randn_like(part) for number, part in enumerate(beside)]
            assert (model.cross(states, Beside(*other)) != whole).any()


def test_one_pass_and_a_pass_for_each_exposure_have_the_same_scores(log):
    model, found = None, []
    for one_pass in True, False:
        task = task_of(log, **CROSS, one_pass=one_pass, next_item=0.0)
        model = model or drawn(task.build())
        rows = {}
        for batch in task.loader.batches():
            with torch.no_grad():
                rows |= dict(zip(batch.rows.tolist(), model(batch)[0]))
        found.append(rows)
    assert found[0].keys() == found[1].keys()
    for row, logits in found[0].items():
        torch.testing.assert_close(logits, found[1][row], atol=1e-5, rtol=1e-5)


def test_new_items_change_no_score_of_the_others_and_are_scored_themselves(log):
    task = task_of(log, **CROSS, item_attributes=())
    model, batch = task.build(), next(task.loader.batches())
    training = task.config.training
    optimizers = make_optimizers(model, training)
    update(model.train(), optimizers, task.loss(model, batch, torch.device("cpu")), None)
    model.eval()
    with torch.no_grad():
        before, _ = model(batch)
        tables.grow(model.backbone.events.items, 2, optimizers)
        assert torch.equal(model(batch)[0], before)
    counts = ItemCounts.of_table(task.table)
    counts.grow(2)
    assert counts.items == model.backbone.events.items.size == ITEMS + 2
    update(model.train(), optimizers, task.loss(model, batch, torch.device("cpu")), None)


def test_with_weights_in_bfloat16_it_is_near(log):
    task = task_of(log, **CROSS)
    model = drawn(task.build(), 0.1)
    model.cross.norm.mean += 1 / 3
    small = reduced(model, "bfloat16")
    assert small.cross.norm.mean.dtype == torch.float32
    states = torch.randn(4, 8)
    beside = Beside(torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 5))
    with torch.no_grad():
        exact = model.cross(states, beside)
        found = small.cross(
            states.bfloat16(), Beside(beside.items.bfloat16(), beside.users.bfloat16(), beside.counters)
        )
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.05)


def test_what_does_not_go_together_is_told(log):
    with pytest.raises(InputError, match=r"counters are read by cross layers.*--set ranking.cross_layers=3"):
        RankingConfig(item_counters=True)
    config = override(tiny_ranking_config(log, next_item=0.0), ["ranking.cross_layers=2"])
    with pytest.raises(
        InputError, match=r"cross_layers is 2, but model.kind=dlrm crosses .* --set ranking.cross_layers=0"
    ):
        build_ranker(DLRMConfig(), config.ranking, Vocabulary(items=3, actions=1), [])


def test_a_stream_refuses_what_it_does_not_keep(log):
    require_streamable(tiny_ranking_config(log, cross_layers=2))
    with pytest.raises(InputError, match=r"a stream does not count items yet.*--set ranking.item_counters=false"):
        require_streamable(tiny_ranking_config(log, **CROSS))
    with pytest.raises(InputError, match=r"data.max_gap is of training on a table"):
        require_streamable(override(tiny_ranking_config(log), ["data.max_gap=60"]))
