"""What `louder serve` says before it serves."""

import json
import os
from dataclasses import replace

import pytest

from louder.cli.publish import publish, rollback
from louder.cli.serve import token_of, warn_of
from louder.data.config import DataConfig
from louder.errors import InputError
from louder.inference.run import Run
from louder.models import Vocabulary


def test_an_open_service_without_a_token_is_warned_of(place, capsys) -> None:
    warn_of(place / "joint", "0.0.0.0", "")
    assert "--token-file" in capsys.readouterr().err
    warn_of(place / "joint", "0.0.0.0", "secret")
    warn_of(place / "joint", "127.0.0.1", "")
    assert capsys.readouterr().err == ""


def test_a_token_loses_the_end_of_its_line(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LOUDER_TOKEN", raising=False)
    assert token_of(None) == ""
    monkeypatch.setenv(
        "LOUDER_TOKEN", "secret\n"
    )  # as `LOUDER_TOKEN="$(cat token; echo)"` and Kubernetes' secrets have it
    assert token_of(None) == "secret"
    (tmp_path / "token").write_text(" other\r\n")
    assert token_of(tmp_path / "token") == "other"
    for wrong in "two\nlines", "tökn", " \n":
        monkeypatch.setenv("LOUDER_TOKEN", wrong)
        with pytest.raises(InputError, match="LOUDER_TOKEN must hold one line of ASCII"):
            token_of(None)


def test_a_run_with_series_is_warned_of(place, capsys, monkeypatch) -> None:
    run = replace(Run.open(place / "joint"), vocabulary=Vocabulary(items=200, series=(4,)), data=DataConfig())
    monkeypatch.setattr(Run, "open", lambda path: run)
    warn_of(place / "joint", "127.0.0.1", "")
    assert "data.auxiliary=false" in capsys.readouterr().err


def test_a_quiet_service_says_still_what_an_acknowledgement_is_worth(service_of, capsys) -> None:
    service = service_of(log=False)
    assert service.store.durability() in capsys.readouterr().err.splitlines()


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


def test_hosts_are_checked_where_no_token_is_needed(place, tmp_path, louder, monkeypatch) -> None:
    told = []

    def stop():
        told.append(json.loads(os.environ["LOUDER_SERVE"]))
        raise InputError("Far enough.")

    monkeypatch.setattr("louder.serving.service.service_from_environment", stop)
    monkeypatch.setenv("LOUDER_SERVE", "")
    (tmp_path / "tokens").write_text("shop read s-1\n")
    token, named = ("--token-file", tmp_path / "tokens"), ("--allow-host", "Reco.example", "--allow-host", "b.example")
    for options in (), token, named, (*token, *named, "--audit", tmp_path / "audit.jsonl"):
        assert louder("serve", place / "joint", "--store", tmp_path / "s", "--port", 0, *options)[0] == 2
    both = ["reco.example", "b.example"]
    assert [x["hosts"] for x in told] == [["127.0.0.1"], ["*"], both, both]
    assert [x["token"] for x in told] == ["", "shop read s-1", "", "shop read s-1"]
    assert [x["audit"] for x in told] == [None, None, None, str(tmp_path / "audit.jsonl")]
