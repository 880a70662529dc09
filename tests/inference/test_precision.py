"""Smaller weights give nearly the same probabilities, and still one candidate's score at a time."""

import pytest
import torch
from test_mfalcon import history, model_of

from louder.errors import InputError
from louder.inference.mfalcon import MFalcon
from louder.inference.precision import PRECISIONS, reduced


@pytest.mark.parametrize("kind", ["hstu", "transformer"])
@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_probabilities_are_near(precision, kind):
    model = model_of(kind, "interleaved")
    events, candidates = history(12, 1, requests=True, at=20_000), torch.arange(20)
    exact = MFalcon(model).score(events, candidates, 20_000)[0].sigmoid()
    small = reduced(model, precision)
    found = MFalcon(small).score(events, candidates, 20_000)[0].sigmoid()
    assert 0 < (found - exact).abs().max() < 0.05
    assert torch.equal(MFalcon(model).score(events, candidates, 20_000)[0].sigmoid(), exact)  # the model is as it was


@torch.no_grad()
def test_int8_does_not_depend_on_the_other_candidates():
    model = reduced(model_of("hstu", "interleaved"), "int8")
    events = history(12, 1, requests=False, at=20_000)
    together = MFalcon(model).score(events, torch.arange(20), 20_000)[0]
    one_by_one = MFalcon(model, microbatch=1).score(events, torch.arange(20), 20_000)[0]
    torch.testing.assert_close(together, one_by_one, atol=2e-2, rtol=0)  # a value at the edge may round either way


def test_a_precision_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="precision must be bfloat16 or int8"):
        reduced(model_of("hstu", "interleaved"), "int4")
