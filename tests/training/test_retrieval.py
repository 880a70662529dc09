"""With sparse tables a batch has the loss and the gradients it has with dense ones, and names the rows it used."""

import pytest
import torch

from louder.batch import RetrievalBatch, SequenceBatch
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig, Vocabulary, build
from louder.training.losses import LossConfig, RetrievalLoss
from louder.training.retrieval import batch_loss

VOCABULARY = Vocabulary(items=50, actions=2, series=(40, 30))
MODELS = {
    "hstu": HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8),
    "hstu not normalised": HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=8, normalised=False),
    "sasrec": SASRecConfig(layers=1, width=8, hidden=8, max_len=8),
    "transformer": TransformerConfig(layers=1, width=8, hidden=8, max_len=8),
}
# row 0 of no table is used, and neither item 9 nor the value 9 of either series
IDS, KINDS = [3, 9, 9, 5, 3, 7, 12, 6], [0, 1, 2, 0, 0, 0, 1, 0]
TARGETS = [5, -1, 3, 7, -1, -1, 8, 3]


def batch(targets=TARGETS):
    times = torch.arange(8) * 60
    sequences = SequenceBatch(
        ids=torch.tensor(IDS),
        timestamps=times,
        query_timestamps=times,
        offsets=torch.tensor([0, 5, 8]),
        actions=torch.tensor([1, 0, 0, 2, 3, 0, 0, 1]),
        kinds=torch.tensor(KINDS, dtype=torch.uint8),
    )
    return RetrievalBatch(
        sequences=sequences, targets=torch.tensor(targets), users=torch.arange(2), rows=torch.tensor([4, 7])
    )


def loss_and_gradients(config, loss, *, sparse, targets=TARGETS):
    torch.manual_seed(1)
    model = build(config, VOCABULARY).train()
    for table in model.events.tables():
        table.sparse_gradients = sparse
    torch.manual_seed(2)  # of dropout and negatives
    value = batch_loss(model, RetrievalLoss(loss, torch.ones(50)), batch(targets), torch.device("cpu"))
    value.backward()
    return value, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(num_negatives=2),
        LossConfig(num_negatives=5, shared_negatives=True),
        LossConfig(kind="bce", num_negatives=2),
        LossConfig(kind="full_softmax"),
    ],
    ids=["sampled", "shared", "bce", "full"],
)
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_sparse_and_dense_tables_have_the_same_loss_and_gradients(config, loss):
    expected, dense = loss_and_gradients(config, loss, sparse=False)
    found, sparse = loss_and_gradients(config, loss, sparse=True)
    torch.testing.assert_close(found, expected)
    for name, gradient in sparse.items():
        torch.testing.assert_close(gradient.to_dense(), dense[name], msg=name)
    assert {name for name, gradient in sparse.items() if gradient.is_sparse} == {
        *(["events.items.weight"] if loss.kind != "full_softmax" else []),  # where every item is used
        "events.series.0.weight",
        "events.series.1.weight",
    }


def test_the_gradients_name_the_rows_that_were_used_and_no_other():
    _, gradients = loss_and_gradients(
        MODELS["hstu"], LossConfig(negatives="in_batch", num_negatives=2, shared_negatives=True), sparse=True
    )
    used = {name: set(x.coalesce().indices()[0].tolist()) for name, x in gradients.items() if x.is_sparse}
    assert used == {
        "events.items.weight": {3, 5, 7, 6, 8},  # engagements and targets
        "events.series.0.weight": {9, 12},
        "events.series.1.weight": {9},
    }


def test_a_batch_without_targets_has_no_gradient_to_speak_of():
    value, gradients = loss_and_gradients(MODELS["hstu"], LossConfig(), sparse=True, targets=[-1] * 8)
    assert value == 0
    assert all(gradient.to_dense().abs().max() == 0 for gradient in gradients.values() if gradient is not None)
