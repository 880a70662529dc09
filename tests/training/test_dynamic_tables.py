"""Tables whose ids come and go: as a static one, to the bit, while everybody has a slot; and what is new has a vector."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tables import random_users, ranking_table, tiny_config, tiny_ranking_config, write_ranking_table, write_table

from louder.batch import SequenceBatch
from louder.data.attributes import Attribute
from louder.models import DLRMConfig, HSTUConfig, MoLConfig, RankingConfig, Vocabulary, build, build_ranker
from louder.models.embeddings import DynamicTable, StaticTable, make_dynamic
from louder.ops.id_table import IdSettings, IdTable
from louder.training import tables
from louder.training.loop import Trainer
from louder.training.losses import LossConfig, RetrievalLoss, mol_loss
from louder.training.optimizers import make_optimizers
from louder.training.tasks import open_task

OPTIMIZERS = ["adamw", "rowwise_adamw", "rowwise_adagrad"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_table(folder / "retrieval", random_users(40, longest=12), items=15)
    log = ranking_table(1, requests="contiguous", users=30, longest=20, items=20)
    write_ranking_table(folder / "ranking", log)
    return folder


def config_of(kind, logs, optimizer):
    if kind == "retrieval":
        config = tiny_config(logs / "retrieval")
    elif kind == "joint":
        config = tiny_ranking_config(logs / "ranking")
    else:
        model = DLRMConfig(width=4, unit_hidden=4, counter_hidden=4, expert_hidden=(8,), tower_hidden=4)
        config = tiny_ranking_config(logs / "ranking", model, next_item=0.0)
    training = replace(config.training, embedding_optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    return replace(config, training=training)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["retrieval", "joint", "dlrm"])
def test_while_everybody_has_a_slot_all_bits_are_those_of_the_static_tables(
    kind, optimizer, logs, tmp_path, monkeypatch
):
    """Losses, gradients and weights of a few steps, the random numbers of the beginning included."""
    config, trainers = config_of(kind, logs, optimizer), []
    for dynamic in False, True:
        task = open_task(config)
        monkeypatch.setattr(task, "vocabulary", replace(task.vocabulary, dynamic=dynamic))
        trainers.append(Trainer(config, task, tmp_path))
    static, other = trainers
    assert all(isinstance(table, DynamicTable) for table in other.model.tables())
    for _ in range(3):
        batch, losses = next(static.loader.batches()), []
        for trainer in trainers:
            trainer.model.train()
            losses.append(trainer.step(batch))
            trainer.progress.step += 1
        assert losses[0] == losses[1]
        others = dict(other.model.named_parameters())
        for name, weight in static.model.named_parameters():
            assert torch.equal(weight, others.pop(name)), name
        assert others and all(name.endswith(".new") for name in others)
        for one, two in zip(static.model.tables(), other.model.tables()):
            grads = [
                x.weight.grad.coalesce().to_dense() if x.weight.grad.is_sparse else x.weight.grad for x in (one, two)
            ]
            assert torch.equal(*grads)
    assert static.evaluate_epoch(0) == other.evaluate_epoch(0)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["sampled_softmax", "full_softmax", "gbce"])
def test_a_catalogue_of_all_is_no_catalogue(kind, sparse):
    model = build(HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8), Vocabulary(items=9, dynamic=True))
    model.events.items.sparse_gradients = sparse
    states, targets = torch.randn(20, 8), torch.randint(9, (20,))
    found = []
    for catalogue in None, torch.arange(9):
        model.zero_grad()
        torch.manual_seed(1)
        loss = RetrievalLoss(LossConfig(kind=kind, num_negatives=4), torch.ones(9).double(), catalogue)
        loss.of(model, states, targets).backward()
        grad = model.events.items.weight.grad
        found.append(grad.to_dense() if grad.is_sparse else grad)
    assert torch.equal(*found) and found[0].any()


@pytest.mark.parametrize(
    "mol", [None, MoLConfig(query_components=2, item_components=2, width=4, query_hidden=8, gate_hidden=4)]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_loss_is_among_those_that_have_slots(sparse, mol):
    """Free slots hold NaN: it is that of a model which has the others alone."""
    config = HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8, normalised=False)
    torch.manual_seed(0)
    model, catalogue = build(config, Vocabulary(items=9, dynamic=True), mol), torch.tensor([1, 4, 5, 7])
    small = build(config, Vocabulary(items=4), mol)
    small.similarity.load_state_dict(model.similarity.state_dict())
    small.events.items.weight.data = model.events.items.weight.data[catalogue]
    free = torch.ones(9, dtype=torch.bool)
    free[catalogue] = False
    model.events.items.weight.data[free] = torch.nan
    states, places = torch.randn(20, 8), torch.randint(4, (20,))
    losses = []
    for own, which, targets in (small, None, places), (model, catalogue, catalogue[places]):
        own.eval()
        own.events.items.sparse_gradients = sparse
        torch.manual_seed(1)
        loss = RetrievalLoss(LossConfig(num_negatives=3, temperature=1.0), torch.ones(4).double(), which)
        users = torch.zeros(20, dtype=torch.int64)
        losses.append(loss.of(own, states, targets) if mol is None else mol_loss(own, loss, states, users, targets))
    assert losses[0] == losses[1]


def table_with(values):
    table = DynamicTable(0, 2)
    table.weight = torch.nn.Parameter(torch.tensor(values))
    table.new.data[:] = torch.tensor([[7.0, 8.0]])
    return table


def test_ids_without_a_slot_share_a_vector_that_learns():
    table = table_with([[1.0, 2.0], [3.0, 4.0]])
    ids = torch.tensor([[1, -1], [2, 0]])
    assert table(ids).tolist() == [[[3, 4], [7, 8]], [[7, 8], [1, 2]]]
    for sparse in False, True:
        table.sparse_gradients = sparse
        table.zero_grad()
        table(ids).sum().backward()
        grad = table.weight.grad
        assert (grad.to_dense() if sparse else grad).tolist() == [[1, 1], [1, 1]]
        assert table.new.grad.tolist() == [[2, 2]]
    assert table(torch.tensor([-1, -1])).tolist() == [[7, 8]] * 2
    assert table.vectors().tolist() == [[1, 2], [3, 4]]
    assert table.of_known(torch.tensor([0, 1]), torch.tensor([False, True])).tolist() == [[7, 8], [3, 4]]


def test_a_row_that_no_id_used_does_not_move(logs):
    """A look-up of what is new uses no row of somebody else."""
    table = table_with([[1.0, 2.0], [3.0, 4.0]])
    table.sparse_gradients = True
    table(torch.tensor([-1, 1, 5])).sum().backward()
    assert table.weight.grad.coalesce().indices().tolist() == [[1]]


def test_the_shared_vector_begins_as_the_mean():
    static = StaticTable(3, 4)
    table = DynamicTable.of(static)
    torch.testing.assert_close(table(torch.tensor([-1])), static.weight.mean(0, keepdim=True))
    assert table.weight is static.weight


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_whoever_comes_begins_anew_and_all_others_go_on(optimizer):
    """A table follows an id table that grows and gives a slot to another: moments and steps of the slot's row are 0."""
    ids = IdTable(IdSettings(budget=4, segment=2))
    model = build(HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8), Vocabulary(items=2, dynamic=True))
    training = replace(tiny_config("").training, embedding_optimizer=optimizer)
    optimizers, table = make_optimizers(model, training), model.events.items
    for now, raw in enumerate([10, 11, 12, 13, 14]):  # the last one takes the slot of the first
        seen = torch.tensor([raw] * 2)
        assert ids.observe(seen, torch.full((2,), now)).tolist() == [-1, -1]
        before = {name: x.clone() for name, x in moments_of(table.weight, optimizers).items()}
        kept = table.weight.detach().clone()
        changes = ids.update(now)
        tables.follow(table, changes, optimizers, torch.Generator().manual_seed(now))
        (slot,) = changes.admitted.slots.tolist()
        assert table.size == ids.capacity == (2 if now < 2 else 4)
        others = [n for n in range(len(kept)) if n != slot]
        assert torch.equal(table.weight[others], kept[others])
        if slot < len(kept):
            assert not torch.equal(table.weight[slot], kept[slot])
        for name, value in moments_of(table.weight, optimizers).items():
            if value.dim():
                assert torch.equal(value[others], before[name][others]) and not value[slot].any(), name
        model.zero_grad()
        (model.item_vectors(torch.arange(table.size)).sum() + table(torch.tensor([-1])).sum()).backward()
        for one in optimizers:
            one.step()
    assert ids.find(torch.tensor([10, 14])).tolist() == [-1, 0]
    # the shared vector keeps its own moments through all of this
    assert all(value.any() for value in moments_of(table.new, optimizers).values())


def moments_of(weight, optimizers):
    return {name: value for one in optimizers for name, value in one.state.get(weight, {}).items()}


def test_a_run_that_was_trained_before_goes_on_as_it_was():
    vocabulary = Vocabulary(items=9, series=(3,))
    model = build(HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8), vocabulary).eval()
    batch = SequenceBatch(
        ids=torch.tensor([1, 2, 8]),
        offsets=torch.tensor([0, 3]),
        timestamps=torch.tensor([1, 2, 3]),
        query_timestamps=torch.tensor([1, 2, 3]),
        kinds=torch.tensor([0, 1, 0], dtype=torch.uint8),
    )
    before, weights = model(batch), deepcopy(model.state_dict())
    make_dynamic(model)
    assert torch.equal(model(batch), before)
    assert model.vocabulary == replace(vocabulary, dynamic=True)
    assert {name: x for name, x in model.state_dict().items() if not name.endswith(".new")}.keys() == weights.keys()
    again = build(model.config, model.vocabulary)  # as it is built from a checkpoint
    again.load_state_dict(model.state_dict())
    assert torch.equal(
        again.eval()(replace(batch, ids=torch.tensor([1, -1, 20]))),
        model(replace(batch, ids=torch.tensor([1, -1, -1]))),
    )


def test_a_new_item_is_what_is_known_of_it_and_the_shared_vector():
    """With attributes beyond the slots, an item has what they say before it is admitted; without any, never zeros."""
    genre = Attribute("genre", 3, torch.tensor([1, 2, 1, 2]), torch.arange(5), ("", "a", "b"))
    model = build_ranker(
        HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8),
        RankingConfig(item_attributes=("genre",)),
        Vocabulary(items=3, actions=1, dynamic=True),
        [genre],
    ).eval()
    table, (genres,) = model.backbone.events.items, model.item_attributes.tables
    found = model.items(torch.tensor([2, 3, -1]))
    torch.testing.assert_close(found[0], table.weight[2] + genres.weight[1])
    torch.testing.assert_close(found[1], table.new[0] + genres.weight[2])
    torch.testing.assert_close(found[2], table.new[0])
    assert found[2].any()
    torch.testing.assert_close(
        model.new_items([replace(genre, codes=torch.tensor([2]), offsets=torch.tensor([0, 1]))])[0], found[1]
    )
