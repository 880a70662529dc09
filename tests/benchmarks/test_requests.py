"""What M-FALCON is measured beside computes the same scores; rows say how many candidates go through in a second."""

import torch

from benchmarks import generative, mfalcon
from benchmarks.measure import measure
from benchmarks.request import OnePass, candidates, counters_of, ranker, user
from louder.inference.mfalcon import MFalcon
from tests.one_device import Elsewhere, one_device

CPU = torch.device("cpu")
SIZES = {"layers": 1, "width": 16, "heads": 2, "amortised": None, "one_pass": None, "device": CPU, "memory": 8.0}


@torch.no_grad()
def test_one_pass_without_memory_gives_the_scores_of_mfalcon():
    history, some = user(20), candidates(9)
    at = int(history.query_timestamps[-1])
    for cross_layers in 0, 2:
        model = ranker(65, 2, 16, 2, cross_layers=cross_layers)
        found = MFalcon(model).score(history, some, at, counters=counters_of(model, some))
        torch.testing.assert_close(OnePass(model, history)(some), found, atol=1e-5, rtol=1e-5)


def test_rows_have_candidates_a_second():
    (case,) = mfalcon.cases(lengths=[128], counts=[8], microbatches=[4], **SIZES)
    rows = {row["implementation"]: row for row in measure(case, 1, CPU)}
    expected = {"louder, cached", "louder, cold", "one batch", "one pass per candidate", "dlrm"}
    variants = {f"louder, cached, {name}" for name in ("bfloat16", "int8", "crosses")}
    assert expected | variants == set(rows)
    for row in rows.values():
        assert row["candidates_per_s"] == round(8 / row["median_s"], 1)
        assert row["flops_per_candidate"] > 0


def test_generative_and_single_passes_train_on_the_same_exposures():
    (case,) = generative.cases([20], labels=40, sampled_tokens=200, device=CPU, memory=8.0)
    rows = {row["implementation"]: row for row in measure(case, 1, CPU)}
    assert rows["louder"]["labels"] == 40
    assert rows["one pass an exposure"]["measured_labels"] == 10


def test_mfalcon_keeps_to_the_device_of_its_model():
    """As a GPU wants it; see tests/one_device.py."""
    sizes = {**SIZES, "lengths": [128], "counts": [8], "microbatches": [4]}
    (here,) = mfalcon.cases(**sizes)
    with one_device() as elsewhere:
        (there,) = mfalcon.cases(**{**sizes, "device": elsewhere})
        for name, candidate in there.candidates.items():
            found = candidate.run()
            if name in ("louder, cached", "louder, cold", "one batch"):
                for x, expected in zip(found, here.candidates[name].run()):
                    assert isinstance(x, Elsewhere)
                    torch.testing.assert_close(x.held, expected, rtol=1e-4, atol=1e-5)
    assert set(here.candidates) - set(there.candidates) == {"louder, cached, int8"}
