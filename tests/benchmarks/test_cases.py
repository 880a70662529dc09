"""Every implementation of a case computes the same numbers where it should."""

import itertools

import pytest
import torch
from tables import random_users, write_table

from benchmarks import attention, encoder, layer, loss, step
from benchmarks.measure import Case, kept_bytes, measure, peak_bytes
from louder.training import retrieval

CPU = torch.device("cpu")
FIELDS = {"case", "implementation", "median_s", "min_s", "max_s", "runs", "peak_bytes", "device", "dtype", "threads"}
SMALL = {"device": CPU, "memory": 8.0}
ATTENTION = {"tokens": 120, "heads": 2, "width": 8, "dtype": torch.float32, **SMALL}
LAYER = {"length": 32, "tokens": 64, "width": 16, "heads": 2, "dtype": torch.float32, **SMALL}


def assert_same(case: Case, *names: str, atol: float = 1e-5) -> None:
    first, *others = (case.candidates[name].run() for name in names)
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("kind", attention.KINDS)
def test_attention_equals_its_reference_in_outputs_and_gradients(kind):
    for case in attention.cases([kind], [40], **ATTENTION):
        assert_same(case, "louder", "naive", "padded")


def test_attention_has_rows_of_all_implementations():
    cases = list(attention.cases(["zipf rab"], [40], **ATTENTION))
    assert [case.shape["passes"] for case in cases] == ["forward", "forward and backward"]
    rows = measure(cases[1], 2, CPU)
    names = ["louder", "louder, bfloat16", "louder, no bias", "louder, padding", "naive", "padded", "sdpa"]
    assert [row["implementation"] for row in rows] == names
    for row in rows:
        assert {*FIELDS, "kind", "users", "tokens", "heads", "width", "max_len"} <= set(row)
        assert 0 < row["min_s"] <= row["median_s"] <= row["max_s"]
        assert row["peak_bytes"] > 0
        assert row["runs"] == 2


def test_the_padded_op_holds_the_scores_and_ours_does_not():
    (case,) = itertools.islice(attention.cases(["uniform"], [256], **ATTENTION | {"tokens": 256}), 1)
    scores = 4 * 2 * 256**2
    assert peak_bytes(case.candidates["padded"].run, CPU) >= 2 * scores
    assert peak_bytes(case.candidates["naive"].run, CPU) >= scores


def test_bfloat16_attention_is_measured():
    for case in attention.cases(["zipf rab"], [40], **ATTENTION | {"dtype": torch.bfloat16}):
        assert all(row["dtype"] == "bfloat16" for row in measure(case, 1, CPU))


def test_what_needs_too_much_memory_is_left_out_and_said():
    (case,) = itertools.islice(attention.cases(["uniform"], [64], **ATTENTION | {"memory": 1e-6}), 1)
    rows = {row["implementation"]: row for row in measure(case, 1, CPU)}
    assert "GiB" in rows["padded"]["skipped"] and "GiB" in rows["naive"]["skipped"]
    assert "median_s" in rows["louder"]


def test_layer_equals_its_reference():
    for case in layer.cases(**LAYER, dropout=0.0):
        assert_same(case, "louder", "naive", "padded", atol=1e-4)
        rows = measure(case, 1, CPU)
        assert all(row["kept_bytes"] >= 4 * 16 * row["tokens"] for row in rows)
        assert len(rows) == (3 if case.shape["kind"].endswith("rab") else 5)


def test_layer_under_autocast():
    for case in layer.cases(**LAYER | {"dtype": torch.bfloat16}):
        measure(case, 1, CPU)


def test_kept_bytes_counts_a_storage_once_and_no_weights():
    weight = torch.nn.Parameter(torch.randn(8, 4))
    x = torch.randn(5, 4, requires_grad=True)
    assert kept_bytes(lambda: (x @ weight.T) * (x @ weight.T).detach(), [weight]) == 4 * (5 * 4 + 5 * 8)

    scale = torch.nn.Parameter(torch.randn(5, 4))  # saved itself, not a transpose of it
    assert kept_bytes(lambda: x * scale, [scale]) == 4 * 5 * 4

    def autocast():
        with torch.autocast("cpu", torch.bfloat16):
            return x @ weight.T

    assert kept_bytes(autocast, [weight]) == 2 * 5 * 4  # x in bfloat16, but no copy of the weight


def test_losses_equal_their_references_and_the_official_one():
    sizes = {"small": loss.Size(60, 40, 8, 16)}  # 40 items: some negatives are their row's target
    sampled, full = loss.cases(sizes, **SMALL)
    assert_same(sampled, "louder", "naive", "official")
    assert_same(full, "louder", "cross_entropy")
    assert all({*FIELDS, "rows", "items", "negatives"} <= set(row) for row in measure(sampled, 1, CPU))


@pytest.mark.parametrize("recipe", step.RECIPES)
def test_steps_have_models_that_compute_the_same(recipe):
    config = step.recipes.load(recipe)
    batches, vocabulary = step.synthetic(config, 3)
    model = step.build(config.model, vocabulary).eval()
    states = model(batches[0].sequences)
    for padded in False, True:
        plain = step.plain_model(model, padded=padded)
        torch.testing.assert_close(plain(batches[0].sequences), states, rtol=1e-3, atol=1e-4)


def test_naive_and_official_loss_of_a_step_are_the_same():
    config = step.recipes.load("ml1m:hstu")
    batches, vocabulary = step.synthetic(config, 3)
    model = step.build(config.model, vocabulary).eval()
    values = []
    for chosen in step.partial(step.naive_loss, config.loss), step.partial(step.official_loss, model, config.loss):
        torch.manual_seed(0)
        values.append(retrieval.batch_loss(model, chosen, batches[0], CPU))
    torch.testing.assert_close(*values)


def test_a_step_trains():
    (case,) = step.cases(["ml1m:hstu"], users=4, **SMALL)
    for name, candidate in case.candidates.items():
        losses = [candidate.run() for _ in range(3 * step.BATCHES)]
        assert losses[-1] < losses[step.BATCHES - 1], name
    assert all({*FIELDS, "users", "recipe"} <= set(row) for row in measure(case, 1, CPU))


def test_encoder_is_measured_with_each_alpha_and_in_inference():
    small = {"tokens": 256, "layers": 1, "width": 16, "heads": 2, "dtype": torch.float32, **SMALL}
    training, inference = encoder.cases(lengths=[64], **small)
    rows = measure(training, 1, CPU)
    assert [row["implementation"] for row in rows] == [
        "transformer",
        *(f"louder, alpha {alpha}" for alpha in encoder.ALPHAS),
    ]
    tokens = [row["tokens"] for row in rows[1:]]
    assert tokens == sorted(tokens)
    assert rows[-1]["tokens"] == training.shape["tokens"]
    assert [row["implementation"] for row in measure(inference, 1, CPU)] == ["transformer", "louder"]


def test_an_epoch_is_every_batch_of_the_table(tmp_path):
    table = write_table(tmp_path / "table", random_users(30, longest=12))
    whole, _ = step.cases(["ml1m:hstu"], users=4, table=table, epoch=True, **SMALL)
    assert whole.name == "ml1m:hstu, one epoch"
    lengths = [len(user) for user in random_users(30, longest=12)]
    assert whole.shape["tokens"] == sum(length - 3 for length in lengths if length > 3)
    first = whole.candidates["louder"].run()
    for _ in range(10):
        last = whole.candidates["louder"].run()
    assert last < first
