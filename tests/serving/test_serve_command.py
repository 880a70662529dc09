"""What `louder serve` says before it serves."""

import json
import os

import pytest

from louder.cli.serve import publish, rollback, warn_of
from louder.errors import InputError


def test_an_open_service_without_a_token_is_warned_of(place, capsys) -> None:
    warn_of(place / "joint", "0.0.0.0", "")
    assert "--token-file" in capsys.readouterr().err
    warn_of(place / "joint", "0.0.0.0", "secret")
    warn_of(place / "joint", "127.0.0.1", "")
    assert capsys.readouterr().err == ""


def test_a_run_with_series_is_warned_of(place, capsys, monkeypatch) -> None:
    state = {"vocabulary": {"series": [4]}, "config": {"data": {"auxiliary": True}}}
    monkeypatch.setattr("louder.checkpoint.load_state", lambda folder: state)
    warn_of(place / "joint", "127.0.0.1", "")
    assert "data.auxiliary=false" in capsys.readouterr().err


def test_the_first_question_is_not_the_users(service_of) -> None:
    service = service_of()
    model = service.models.live
    assert model.ranker is not None
    assert not model.ranker.mfalcon.cache  # nothing of it is remembered
    assert model.ranker.mfalcon.misses > 0  # and yet it was asked


def test_a_link_is_published_and_rolled_back(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("louder.checkpoint.best", lambda run: run)
    monday, tuesday, link = tmp_path / "monday", tmp_path / "tuesday", tmp_path / "live"
    for run in monday, tuesday:
        run.mkdir()
    with pytest.raises(InputError, match="Nothing was behind"):
        rollback(link)
    publish(monday, link)
    publish(tuesday, link)
    publish(tuesday, link)  # again, which must not make it its own predecessor
    assert link.resolve() == tuesday
    rollback(link)
    assert link.resolve() == monday
    rollback(link)
    assert link.resolve() == tuesday
    with pytest.raises(InputError, match="is no link"):
        publish(monday, tuesday)


def test_the_old_name_of_the_queue_delay_is_taken_with_a_line(place, tmp_path, louder, monkeypatch) -> None:
    told = []

    def stop():
        told.append(json.loads(os.environ["LOUDER_SERVE"])["max_queue_delay_s"])
        raise InputError("Far enough.")

    monkeypatch.setattr("louder.serving.service.service_from_environment", stop)
    monkeypatch.setenv("LOUDER_SERVE", "")
    for option in "--max-queue-delay", "--patience":
        code, _, error = louder("serve", place / "joint", "--store", tmp_path / "s", "--port", 0, option, 50)
        assert code == 2 and ("--patience is now called --max-queue-delay." in error) == (option == "--patience")
    assert told == [0.05, 0.05]
