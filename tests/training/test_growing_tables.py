"""Embedding tables behind their interface: other kinds fit in without touching a model, and rows that are new are new to
the optimizers as well."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tables import random_users, ranking_table, tiny_config, tiny_ranking_config, write_ranking_table, write_table

from louder.models import DLRMConfig, HSTUConfig, MoLConfig, Vocabulary, WukongConfig, build
from louder.models.embeddings import EmbeddingTable, StaticTable
from louder.training import tables
from louder.training.loop import Trainer
from louder.training.optimizers import groups
from louder.training.rowwise import RowwiseAdagrad, RowwiseAdamW
from louder.training.tasks import open_task


class SlotTable(EmbeddingTable):
    """Ids in slots, in no order, among slots that nobody has. What a dynamic table is to a model."""

    def __init__(self, static, seed=0):
        super().__init__()
        self.width, ids = static.width, static.size
        slots = torch.randperm(ids + 5, generator=torch.Generator().manual_seed(seed))[:ids]
        self.register_buffer("slots", slots)
        weight = torch.full((ids + 5, self.width), torch.nan)  # reading one that nobody has shows
        weight[slots] = static.weight.detach()
        self.weight = torch.nn.Parameter(weight)

    @property
    def size(self):
        return len(self.slots)

    def forward(self, ids):
        return F.embedding(self.rows(ids), self.weight, sparse=self.sparse_gradients)

    def vectors(self):
        return self.weight[self.slots]

    def rows(self, ids):
        return self.slots[ids]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_table(folder / "retrieval", random_users(40, longest=12), items=15)
    log = ranking_table(1, requests="contiguous", users=30, longest=20, items=20)
    write_ranking_table(folder / "ranking", log)
    return folder


IMPRESSION = dict(width=4, unit_hidden=4, counter_hidden=4)
MOL = MoLConfig(query_components=3, item_components=2, width=4, query_hidden=8, gate_hidden=6)
KINDS = ["retrieval", "mol", "ranking", "dlrm", "wukong"]


def config_of(kind, logs, optimizer="adamw"):
    if kind in ("retrieval", "mol"):
        config = tiny_config(logs / "retrieval")
        if kind == "mol":
            loss, model = replace(config.loss, temperature=1.0), replace(config.model, normalised=False)
            config = replace(config, loss=loss, model=model, mol=MOL)
    elif kind == "ranking":
        config = tiny_ranking_config(logs / "ranking")
    else:
        model = {
            "dlrm": DLRMConfig(**IMPRESSION, expert_hidden=(8,), tower_hidden=4),
            "wukong": WukongConfig(**IMPRESSION, fmb_hidden=(8,), hidden=(8,)),
        }[kind]
        config = tiny_ranking_config(logs / "ranking", model, next_item=0.0)
    training = replace(config.training, embedding_optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    return replace(config, training=training)


def built_with_slots(build_model):
    """Every large table is exchanged from outside."""
    model = build_model()
    for seed, table in enumerate(model.tables()):
        for module in model.modules():
            for name, child in module.named_children():
                if child is table:
                    setattr(module, name, SlotTable(table, seed))
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise_adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_another_kind_fits_without_touching_a_model(kind, optimizer, logs, tmp_path, monkeypatch):
    """The losses of a few steps, the vectors after them and what evaluation finds are those of the static table."""
    config, trainers = config_of(kind, logs, optimizer), []
    for slots in False, True:
        task = open_task(config)
        if slots:
            monkeypatch.setattr(task, "build", partial(built_with_slots, task.build))
        trainers.append(Trainer(config, task, tmp_path))
    static, other = trainers
    assert all(isinstance(table, SlotTable) for table in other.model.tables())
    for _ in range(4):
        batch = next(static.loader.batches())
        found = []
        for trainer in trainers:
            trainer.model.train()
            found.append(trainer.step(batch))
            trainer.progress.step += 1
        assert found[0] == pytest.approx(found[1], rel=1e-6)
    for one, two in zip(static.model.tables(), other.model.tables()):
        assert one.size == two.size
        ids = torch.arange(one.size)
        torch.testing.assert_close(two(ids), one(ids), rtol=1e-5, atol=1e-6)
        if optimizer != "adamw":  # rows that nobody has were never touched
            free = torch.ones(len(two.weight), dtype=torch.bool)
            free[two.rows(ids)] = False
            assert two.weight[free].isnan().all()
    rows = [trainer.evaluate_epoch(0)[0] for trainer in trainers]
    assert rows[0].pop("part") == rows[1].pop("part") == "validation"
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_is_the_look_up_of_every_id(kind, logs, tmp_path):
    for table in Trainer(config_of(kind, logs), open_task(config_of(kind, logs)), tmp_path).model.tables():
        assert torch.equal(table.vectors(), table(torch.arange(table.size)))
        assert table.rows(torch.tensor([2, 0])).tolist() == [2, 0]
        assert [name for name, _ in table.named_parameters()] == ["weight"]  # as in every checkpoint there is


def test_a_sparse_gradient_holds_the_rows_looked_up():
    table = StaticTable(6, 3)
    for sparse in False, True:
        table.sparse_gradients = sparse
        table.zero_grad()
        table(torch.tensor([[4, 1], [1, 1]])).sum().backward()
        assert table.weight.grad.is_sparse == sparse
        assert table.weight.grad.to_dense()[:, 0].tolist() == [0, 3, 0, 0, 1, 0]
    assert table.weight.grad.coalesce().indices().tolist() == [[1, 4]]


def test_new_vectors_are_small_and_their_own():
    table = StaticTable(4, 500)
    before = table.weight.detach().clone()
    table.reset(torch.tensor([3, 1]), torch.Generator().manual_seed(5))
    assert torch.equal(table.weight[[0, 2]], before[[0, 2]])
    new = table.weight[[1, 3]].detach()
    assert not torch.equal(new[0], new[1])
    assert new.abs().max() <= 0.04
    assert 0.015 < new.std() < 0.02  # of a normal distribution of .02 that ends at two deviations
    same = StaticTable(4, 500)
    same.reset(torch.tensor([3, 1]), torch.Generator().manual_seed(5))
    assert torch.equal(same.weight[[1, 3]], new)
    table.grow(3)
    assert (table.size, table.weight.requires_grad) == (7, True)
    assert table.weight[4:].abs().max() <= 0.04 and table.weight[4:].abs().min() >= 0
    assert len(set(table.weight[:, 0].tolist())) == 7


def test_a_table_that_begins_at_zero_has_new_rows_of_zeros():
    table = StaticTable(3, 2, at_zero=True)
    torch.nn.init.ones_(table.weight)
    table.reset(torch.tensor([1]))
    table.grow(2)
    assert table.weight.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0], [0, 0]]


MAKERS = {
    "rowwise_adamw": lambda w: RowwiseAdamW(w, lr=0.1, betas=(0.9, 0.97), weight_decay=0.1),
    "without first moment": lambda w: RowwiseAdamW(w, lr=0.1, betas=(0.0, 0.97)),
    "rowwise_adagrad": lambda w: RowwiseAdagrad(w, lr=0.1),
    "adamw": lambda w: torch.optim.AdamW(w, lr=0.1, fused=True),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def train_rows(table, optimizer, ids, steps=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        weight = torch.randn(len(ids), table.width, generator=random)
        (table(torch.tensor(ids)) * weight).sum().backward()
        optimizer.step()


def table_of(size, optimizer, seed=0):
    torch.manual_seed(seed)
    table = StaticTable(size, 4)
    table.sparse_gradients = not optimizer.startswith("adamw")
    return table


@pytest.mark.parametrize("name", MAKERS)
def test_after_growing_old_rows_go_on_to_the_bit_and_new_ones_begin(name):
    whole, grown = table_of(6, name), table_of(6, name)
    optimizers = MAKERS[name](whole.parameters()), MAKERS[name](grown.parameters())
    for table, optimizer in zip((whole, grown), optimizers):
        train_rows(table, optimizer, [0, 3, 5])
    tables.grow(grown, 3, [optimizers[1]])
    (weight,) = grown.parameters()
    assert [p is weight for group in optimizers[1].param_groups for p in group["params"]] == [True]
    assert list(optimizers[1].state) == [weight]
    for key, value in optimizers[0].state[whole.weight].items():
        now = optimizers[1].state[weight][key]
        if value.dim():
            assert len(now) == 9
            assert torch.equal(now[:6], value) and not now[6:].any()
        else:
            assert torch.equal(now, value)
    for table, optimizer in zip((whole, grown), optimizers):
        train_rows(table, optimizer, [0, 3, 5], seed=1)
    assert torch.equal(grown.weight[:6], whole.weight)
    # a new row learns as the only row of a new table does
    begun = grown.weight[7].detach().clone()
    train_rows(grown, optimizers[1], [7], steps=4, seed=2)
    if name != "adamw":  # which counts the steps of the whole table
        alone = table_of(1, name)
        alone.weight.data[0] = begun
        train_rows(alone, MAKERS[name](alone.parameters()), [0], steps=4, seed=2)
        assert torch.equal(grown.weight[7], alone.weight[0])


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "adamw"])
def test_a_row_that_is_reset_learns_as_one_that_was_never_used(name):
    table, optimizer = table_of(6, name), None
    optimizer = MAKERS[name](table.parameters())
    train_rows(table, optimizer, [0, 2, 4])
    before = {key: value.clone() for key, value in optimizer.state[table.weight].items()}
    kept = table.weight.detach().clone()
    tables.reset(table, table.rows(torch.tensor([2, 5])), [optimizer])
    others = [0, 1, 3, 4]
    assert torch.equal(table.weight[others], kept[others])
    assert not torch.equal(table.weight[2], kept[2])
    for key, value in optimizer.state[table.weight].items():
        assert torch.equal(value[others], before[key][others]), key
        assert not value[[2, 5]].any(), key
    alone = table_of(1, name)
    alone.weight.data[0] = table.weight[2].detach()
    train_rows(table, optimizer, [2], steps=4, seed=2)
    train_rows(alone, MAKERS[name](alone.parameters()), [0], steps=4, seed=2)
    assert torch.equal(table.weight[2], alone.weight[0])


def test_adamw_forgets_the_moments_of_a_row_that_is_reset():
    table = table_of(6, "adamw")
    optimizer = MAKERS["adamw"](table.parameters())
    train_rows(table, optimizer, [0, 2, 4])
    tables.reset(table, torch.tensor([2]), [optimizer])
    state = optimizer.state[table.weight]
    assert state["step"] == 3
    for key in "exp_avg", "exp_avg_sq":
        assert not state[key][2].any() and state[key][[0, 4]].all()


@every_optimizer
def test_growing_and_resetting_before_the_first_step_or_in_other_optimizers_changes_no_state(make):
    table, stranger = StaticTable(4, 4), torch.nn.Parameter(torch.randn(4, 4))
    optimizers = [make(table.parameters()), make([stranger])]
    stranger.grad = torch.ones(4, 4)
    optimizers[1].step()
    before = {key: value.clone() for key, value in optimizers[1].state[stranger].items()}
    tables.reset(table, torch.tensor([1]), optimizers)
    tables.grow(table, 2, optimizers)
    assert not optimizers[0].state
    assert optimizers[0].param_groups[0]["params"][0] is table.weight
    for key, value in optimizers[1].state[stranger].items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise_adamw", "rowwise_adagrad"])
def test_a_grown_run_goes_on_from_its_checkpoint_with_the_same_bits(optimizer, logs, tmp_path):
    """Items that come during a run: train, grow, train; saved in between and restored, it ends the same."""
    config = config_of("retrieval", logs, optimizer)
    whole = Trainer(config, open_task(config), tmp_path / "whole")
    batch = next(whole.loader.batches())
    whole.model.train()
    for number in range(4):
        if number == 2:
            tables.grow(whole.model.events.items, 5, whole.optimizers, torch.Generator().manual_seed(1))
            whole.save()
        whole.step(batch)
        whole.progress.step += 1
    resumed = Trainer(config, open_task(config), tmp_path / "whole")
    tables.grow(resumed.model.events.items, 5, resumed.optimizers)
    resumed.restore()
    assert resumed.progress.step == 2
    resumed.model.train()
    for _ in range(2):
        resumed.step(batch)
        resumed.progress.step += 1
    expected = whole.model.state_dict()
    assert expected["events.items.weight"].shape == (20, 8)
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    found = {weight for group in groups(resumed.optimizers) for weight in group["params"]}
    assert found == set(resumed.model.parameters())


def test_a_model_that_grew_recommends_from_all_of_its_items():
    model = build(HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8), Vocabulary(items=5)).eval()
    model.events.items.grow(2)
    assert model.item_vectors().shape == model.catalogue().shape == (7, 8)
    assert torch.equal(model.item_vectors(torch.tensor([6])), model.item_vectors()[6:])
