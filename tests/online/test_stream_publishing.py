"""Each window's model becomes a version, if it passes the gate: models are compared on the same events."""

import json
from dataclasses import replace

import pytest
import torch
from runs import untrained_run
from tables import events, random_users, tiny_config, write_table

from louder import checkpoint
from louder.online.publisher import Publisher
from louder.online.stream import Trainer
from louder.publishing import Bounds, current_version
from louder.publishing.chain import refusals, state_of
from tests.online.streams import FAST, arrivals, learnt, rows, write_log

FEW = Bounds(fewest_events=1, worse=0.02, fallen=0.1, unknown=1.0)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    place = tmp_path_factory.mktemp("publishing")
    users = random_users(30, items=15, longest=12, actions=2)
    table = write_table(place / "t", users, items=15, actions=["like", "share"])
    return untrained_run(tiny_config(table), place / "run"), write_log(
        place / "log", arrivals(users, start=1_700_200_800)
    )


def test_what_is_served_is_what_was_learnt(given, tmp_path):
    run, log = given
    learnt(run, log, tmp_path / "s", publish=Publisher(tmp_path / "live", FEW))
    served = current_version(tmp_path / "live")
    weights = checkpoint.load_tensors(checkpoint.latest(tmp_path / "s"), "model")
    assert all(weights[name].equal(weight) for name, weight in state_of(served).weights.items())
    found = rows(tmp_path / "s")
    assert [row["published"] for row in found][-1] == served.name and not any(row["refused"] for row in found)
    assert "stream" not in state_of(served).state and served.number == len(found)


def test_a_model_that_got_worse_is_rolled_back_and_what_is_as_good_again_is_published(given, tmp_path, monkeypatch):
    """Items follow each other in a circle. After the eighth window the vectors of the items are exchanged."""
    run, _ = given
    circle = [events(*((start + n) % 15 for n in range(64)), gap=150) for start in range(30)]
    log = write_log(tmp_path / "log", arrivals(circle), partitions=1)
    settings, fast = replace(FAST, window_s=900), ["training.learning_rate=0.02", "training.seed=1"]
    real = Trainer.save

    def broken(self, cut, row):
        if cut.window == 8:
            with torch.no_grad():
                self.learner.model.events.items.weight.copy_(self.learner.model.events.items.weight.flip(0))
        real(self, cut, row)

    monkeypatch.setattr(Trainer, "save", broken)
    bounds = replace(FEW, worse=0.5, fallen=0.5)
    learnt(run, log, tmp_path / "s", settings, changes=fast, publish=Publisher(tmp_path / "live", bounds))
    found = rows(tmp_path / "s")
    perplexity = [row["next_item"]["log_perplexity"] for row in found]
    assert perplexity[7] < 0.5 * perplexity[0] and perplexity[8] > 2 * perplexity[7]
    assert found[7]["published"].startswith("live@8-")  # nobody could know before it was measured
    assert found[8]["rolled_back"] and found[8]["published"].startswith("live@7-")
    assert found[9]["refused"] and found[9]["published"].startswith("live@7-")
    why = refusals(tmp_path / "live")
    assert "worse by more than 50.0%" in why[0]["why"][0] and why[0]["served"] == 7


def test_a_row_that_a_kill_kept_back_is_written_by_who_goes_on(given, tmp_path, monkeypatch):
    run, log = given

    def killed(*given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learnt(run, log, tmp_path / "s", publish=killed)
    assert not (tmp_path / "s" / "stream.jsonl").read_text()
    learnt(run, log, tmp_path / "s", windows=1)
    assert [row["window"] for row in rows(tmp_path / "s")] == [1, 2]
    state = json.loads((checkpoint.latest(tmp_path / "s") / "state.json").read_text())
    assert state["stream"]["row"]["window"] == 2
