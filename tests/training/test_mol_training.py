"""Training with a mixture of logits: the loss, by hand and against the module; a run, from its config to its answers."""

import json
import math
from dataclasses import replace

import pytest
import torch
import yaml
from tables import checkerboard, random_users, tiny_config, write_table

from louder.batch import RetrievalBatch, SequenceBatch
from louder.config import from_dict, override, to_dict
from louder.errors import InputError
from louder.evaluation.retrieval import evaluate, model_scorer
from louder.histories.history import Names
from louder.inference.engine import Engine
from louder.inference.recommender import Event, Recommender
from louder.inference.request import Request, history_of
from louder.inference.run import Run
from louder.models import HSTUConfig, MoLConfig, Vocabulary, build
from louder.training.config import Config
from louder.training.loop import train
from louder.training.losses import LossConfig, RetrievalLoss, balance_loss, mol_loss
from louder.training.retrieval import batch_loss, part_loader
from louder.training.task import open_config_table

MOL = MoLConfig(query_components=3, item_components=2, width=4, query_hidden=8, gate_hidden=6, user_rows=3)
EXACT = replace(MOL, user_dropout=0, item_dropout=0, gate_dropout=0)
HSTU_TINY = HSTUConfig(layers=1, width=8, qk_width=4, v_width=4, max_len=16, normalised=False, dropout=0)
ITEMS = 10


def mol_config(table, mol=MOL, **training):
    config = tiny_config(table)
    return replace(
        config,
        model=replace(config.model, normalised=False),
        loss=replace(config.loss, temperature=1.0, kind="sampled_softmax"),
        training=replace(config.training, **training),
        mol=mol,
    )


def test_the_balance_loss_is_the_written_out_arithmetic():
    shares = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]])
    mean_of_entropies = (-2 * 0.5 * math.log(0.5) + 0) / 2
    entropy_of_mean = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert balance_loss(shares).item() == pytest.approx(mean_of_entropies - entropy_of_mean, abs=1e-5)


def test_the_balance_loss_is_lowest_where_each_logit_has_its_own_pairs():
    own, shared, one = torch.eye(4), torch.full((4, 4), 0.25), torch.eye(4)[[0, 0, 0, 0]]
    assert balance_loss(own).item() == pytest.approx(-math.log(4), abs=1e-4)
    assert balance_loss(shared).item() == pytest.approx(0, abs=1e-4)
    assert balance_loss(one).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [{}, {"shared_negatives": True}, {"negatives": "popularity", "logq": True}, {"negatives": "in_batch"}],
    ids=["own", "shared", "logq", "in batch"],
)
def test_the_loss_is_that_of_the_scores_of_target_and_negatives(options):
    torch.manual_seed(0)
    model = build(HSTU_TINY, Vocabulary(items=ITEMS), EXACT).double().train()
    states = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    users, targets = torch.tensor([0, 0, 1, 1, 7, -1]), torch.randint(ITEMS, (6,))
    losses = RetrievalLoss(LossConfig(temperature=1, num_negatives=5, **options), torch.arange(10).double())
    torch.manual_seed(3)
    found = mol_loss(model, losses, states, users, targets)

    torch.manual_seed(3)
    drawn = losses.draw(targets).expand(6, -1)
    mol = model.similarity
    scores, shares = mol.pairs(mol.queries(states, users), mol.items(model.item_vectors())[None])
    expected = 0
    for row, target in enumerate(targets.tolist()):
        ids = [target] + [item for item in drawn[row].tolist() if item != target]
        logits = scores[row, ids].float()
        if losses.log_weights is not None:
            logits = logits - losses.log_weights[ids]
        expected = expected + (logits.logsumexp(0) - logits[0]) / 6
    of_targets = shares[torch.arange(6), targets]
    expected = expected + 0.001 * balance_loss(of_targets)
    expected = expected + 0.1 * (mol.users.weight[[1, 1, 2, 2, 2, 0]] ** 2).sum() / 6
    torch.testing.assert_close(found.float(), expected.float())
    leaves = states, *(x for name, x in model.named_parameters() if "similarity" in name or "items" in name)
    for ours, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_sparse_and_dense_tables_have_the_same_loss_and_gradients():
    times = torch.arange(5) * 60
    sequences = SequenceBatch(
        ids=torch.tensor([3, 4, 1, 3, 2]),
        timestamps=times,
        query_timestamps=times,
        offsets=torch.tensor([0, 2, 5]),
    )
    batch = RetrievalBatch(
        sequences=sequences, targets=torch.tensor([4, -1, 3, 2, 6]), users=torch.tensor([1, 2]), rows=torch.zeros(2)
    )
    values = []
    for sparse in False, True:
        torch.manual_seed(0)
        model = build(HSTU_TINY, Vocabulary(items=ITEMS), EXACT)
        model.events.items.sparse_gradients = sparse
        torch.manual_seed(1)
        losses = RetrievalLoss(LossConfig(temperature=1, num_negatives=2), torch.ones(ITEMS))
        loss = batch_loss(model, losses, batch, torch.device("cpu"))
        loss.backward()
        assert model.events.items.weight.grad.is_sparse == sparse
        values.append((loss, {name: x.grad.to_dense() for name, x in model.named_parameters() if x.grad is not None}))
    torch.testing.assert_close(values[0], values[1])


def test_a_run_learns_a_checkerboard(tmp_path):
    """The held-out item is the only one of the user's colour that is not in the history."""
    table = write_table(tmp_path / "table", checkerboard(users=80), items=20)
    config = mol_config(table, replace(EXACT, user_rows=0, temperature=0.2), epochs=16, learning_rate=0.01)
    config = replace(config, loss=replace(config.loss, num_negatives=16))
    result = train(config, tmp_path / "run", quiet=True)
    assert result["metrics"]["hr@1"] > 0.8
    assert result["popularity"]["hr@1"] < 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mol")
    table = write_table(folder / "table", checkerboard(), items=20)
    train(mol_config(table), folder / "run", quiet=True)
    return folder / "run"


def test_recommendations_are_what_evaluation_ranks(run):
    opened = Run.open(run)
    model, config = opened.sequential(), from_dict(Config, opened.config)
    loader = part_loader(open_config_table(config), config, "test")
    ranks = evaluate(model_scorer(model), loader, seen="history").ranks
    engine = Engine(run)
    for user, rank in zip(loader.spans.users.tolist(), ranks.tolist()):
        *history, target = checkerboard()[user]
        past = history_of([Event(1000 + token.id, token.time) for token in history], Names())
        found = engine.recommend(Request(history=past, user=100 + user, at=target.time, k=20)).items.tolist()
        assert found.index(target.id) + 1 == rank


def test_a_known_user_gets_other_scores_than_somebody_with_that_history(run):
    recommender = Recommender(run)
    history = [Event(1000 + token.id, token.time) for token in checkerboard()[0]]
    known, unknown = recommender.recommend(user=100, k=3), recommender.recommend(history=history, k=3)
    assert [item.score for item in known] != [item.score for item in unknown]


def test_commands_work_on_such_a_run(louder, run, tmp_path):
    code, out, _ = louder("evaluate", run, "--json")
    assert code == 0
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert json.loads(out)["metrics"] == pytest.approx(metrics)
    code, out, _ = louder("recommend", run, "--user", 101, "-k", 3, "--json")
    assert code == 0
    assert len(json.loads(out)) == 3


def test_a_run_that_is_resumed_ends_as_one_that_was_not(run, tmp_path):
    table = from_dict(Config, json.loads((run / "config.json").read_text())).data.table
    config = mol_config(table, epochs=2)
    whole = train(config, tmp_path / "whole", quiet=True)
    train(mol_config(table, epochs=1), tmp_path / "parts", quiet=True)
    assert train(config, tmp_path / "parts", resume=True, quiet=True)["metrics"] == whole["metrics"]


def test_a_table_with_other_users_is_refused(louder, run, tmp_path):
    other = write_table(tmp_path / "t", random_users(12, items=20), items=20)
    code, _, err = louder("evaluate", run, "--table", other)
    assert code == 2
    assert "it has 12 users" in err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.normalised=true", r"--set model\.normalised=false"),
        ("loss.temperature=0.05", r"--set loss\.temperature=1"),
        ("loss.kind=bce", r"loss\.kind is 'bce', but mol learns by sampled_softmax"),
        ("mol.widht=3", r"There is no setting 'mol\.widht'. Did you mean 'mol\.width'"),
        ("mol.gate_dropout=2", r"mol\.gate_dropout must be in \[0, 1\), but it is 2"),
    ],
)
def test_a_config_that_does_not_fit_is_told(setting, message):
    with pytest.raises(InputError, match=message):
        override(mol_config("t"), [setting])


def test_a_config_with_mol_comes_back_from_its_file():
    config = mol_config("t")
    assert from_dict(Config, yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(to_dict(config)))))) == config
