"""louder try, from a log to its page, at a size that takes seconds."""

import json
import os
import signal
import time

import numpy as np
import pytest

from louder.reports import trial_page
from louder.results import Row

SMALL = [
    word
    for x in ("model.width=8", "model.layers=1", "training.device=cpu", "training.epochs=2")
    for word in ("--set", x)
]
START = 1_700_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """150 people who walk through 40 items in order, each from a place of their own, an event an hour."""
    file = tmp_path_factory.mktemp("log") / "shop.csv"
    lines = [f"u{u},i{(u + n) % 40},{START + 3_600 * n + u}" for u in range(150) for n in range(12)]
    file.write_text("\n".join(["user_id,item_id,timestamp", *lines, "u1,,5"]) + "\n")
    return file


def lists(log, hits: int):
    """The lists of all people, the first `hits` of which begin with what comes next in the last tenth of the time."""
    rows = [f"u{u},i{(u + 11) % 40 if u < hits else (u + 20) % 40},1" for u in range(150)]
    file = log.with_name(f"lists{hits}.csv")
    file.write_text("\n".join(["user,item,position", *rows]) + "\n")
    return file


def test_from_a_log_to_its_page(louder, log, tmp_path):
    given = "-o", tmp_path / "out", "--minutes", "0.2", "--present", lists(log, 75), "--json", *SMALL
    code, out, err = louder("try", log, *given)
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out" / "found.json").read_text())
    assert (found["name"], found["log"], found["by_time"]) == (
        "shop", {"users": 150, "items": 40, "events": 1_800, "has_times": True}, True,
    )  # fmt: skip
    assert [one["name"] for one in found["systems"]] == ["popularity", "item-kNN", "SASRec", "HSTU"]
    for one in found["systems"]:
        assert 0 <= one["low"] <= one["hr@10"] <= one["high"] <= 1
    assert found["users"] == 150 and found["best"] in ("SASRec", "HSTU")
    assert found["verdict"]["answer"] in ("yes", "no", "unclear")
    assert (found["present"]["users"], found["present"]["k"], found["present"]["hr"]) == (150, 1, 0.5)
    assert sum(row["users"] for row in found["by_length"]) == 150
    assert any(one["what"].startswith("Dropped rows: 1") for one in found["findings"])
    assert found["commands"]["serve"].startswith(f"louder serve {tmp_path}/out/")
    page = (tmp_path / "out" / "report.html").read_text()
    assert found["verdict"]["headline"] in page and "what was shown" in page and "People can only take" in page

    code, out, err = louder("try", tmp_path / "out" / "table", "-o", tmp_path / "out", "--minutes", "0.1", *SMALL)
    assert code == 0, err
    assert found["systems"][0]["name"] in out and "The page:" in out


def test_an_interrupt_is_one_sentence(louder, log, tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr("louder.trial.models.train", interrupted)
    words = ["try", str(log), "-o", str(tmp_path / "out"), "--minutes", "0.5"]
    code, _, err = louder(*words)
    assert code == 130
    assert err.splitlines()[-1] == f"louder: interrupted, so there is no page. Begin again: louder {' '.join(words)}"
    assert not (tmp_path / "out" / "report.html").exists()


def test_what_no_trial_made_is_left_alone(louder, log, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = louder("try", log, "-o", tmp_path)
    assert code == 2 and "thesis.txt, which no trial made" in err
    assert louder("try", log, "-o", tmp_path / "thesis.txt")[0] == 2


def test_lists_of_nobody_are_told_before_anything_is_trained(louder, log, tmp_path):
    file = tmp_path / "lists.csv"
    file.write_text("user,item,position\nstranger,i1,1\n")
    code, _, err = louder("try", log, "-o", tmp_path / "out", "--present", file)
    assert code == 2 and "Are their ids those of the log?" in err
    assert not (tmp_path / "out" / "sasrec").exists()


def found_by_hand(**changes: object) -> Row:
    def one(name, trained, hit):
        row = {"name": name, "trained": trained, "how": "", "seconds": 61.0, "hr@10": hit, "ndcg@10": hit / 2}
        return row | {"low": hit - 0.01, "high": hit + 0.01}

    gain = {"mean": 0.1, "low": 0.08, "high": 0.12, "ratio": 1.5, "ratio_low": 1.2, "ratio_high": 1.8}
    group = {"group": "0", "what": "", "users": 30, "hr@10": dict.fromkeys(trial_page.COLOURS, 0.1)}
    event = {"item": "<b>", "time": 86_400}
    example = {"user": "<i>", "events": 9, "history": [event], "next": "x", "time": 172_800, "rank": 3.0}
    example["recommended"] = [{"item": "x", "hit": True, "because": ["<b>", "<b>"]}]
    return {
        "name": "a & b",
        "log": {"users": 1_000, "items": 10, "events": 9_000, "has_times": True},
        "users": 900,
        "split": "By time.",
        "by_time": True,
        "seen": "none",
        "positive": [],
        "repeats": 0.16,
        "verdict": {"answer": "yes", "headline": "Yes.", "reasons": ["It is <so>."]},
        "best": "HSTU",
        "simple": "item-kNN",
        "systems": [one("popularity", False, 0.05), one("item-kNN", False, 0.1), one("SASRec", True, 0.15), one("HSTU", True, 0.2)],
        "gains": {"popularity": gain, "item-kNN": gain, "SASRec": gain | {"ratio": None}},
        "by_length": [],
        "by_item": [group],
        "present": None,
        "cost": {
            "train_seconds": 60.0, "events_per_s": 5_000.0, "request_ms": 3.2, "memory_bytes": 1.5e9, "checkpoint_bytes": 4.2e6,
            "larger": 10, "larger_train_seconds": 600.0, "larger_items": 100, "larger_checkpoint_bytes": 4.2e7,
        },
        "examples": [example],
        "findings": [],
        "actions": [],
        "commands": {"serve": "louder serve x", "train": "louder train", "serve_final": "louder serve y", "report": ""},
        "choices": [["so it is", ["model.layers=2"]]],
        "minutes": 10.0,
        "seconds": 500.0,
        "machine": "one",
    } | changes  # fmt: skip


def test_the_page_says_what_was_found_and_escapes_what_comes_from_data():
    page = trial_page.page(found_by_hand()).split("<script>")[0]
    for text in (
        "a &amp; b",
        "It is &lt;so&gt;.",
        "2.5 times",
        "+10.0 points",
        "1 min 1 s",
        "1.5 GB",
        "10 min 0 s",
        "16%",
        "Nothing odd",
    ):
        assert text in page, text
    assert "<i>" not in page.replace('<i style="', "") and page.count("because of &lt;b&gt;<") == 1
    assert "30 of 900 people took an item that was not in training" in page


def test_a_page_of_a_no_says_so():
    verdict = {"answer": "no", "headline": "No.", "reasons": []}
    found = found_by_hand(
        verdict=verdict, findings=[{"serious": True, "what": "Days.", "todo": "Log times."}], actions=["buy"]
    )
    page = trial_page.page(found)
    assert 'class="verdict no"' in page and "Only if you want to see for yourself" in page
    assert "<b>! </b>Days." in page and "actions that tell events apart (buy)" in page


def test_sizes_and_groups_are_written_for_people():
    from louder.trial.trial import groups

    assert [trial_page.size(x) for x in (12, 1_234, 250_000, 4.2e6, 2e15)] == [
        "12 bytes",
        "1.2 kB",
        "250 kB",
        "4.2 MB",
        "2,000.0 TB",
    ]
    by = np.repeat([1, 5, 6, 30, 400], 20)
    rows = groups({"a": by % 2 + 10.0}, by, (0, 5, 10, 20, 50, np.inf), "")
    assert [(row["group"], row["users"], row["hr@10"]["a"]) for row in rows] == [
        ("1–5", 40, 0.0), ("6–10", 20, 1.0), ("21–50", 20, 1.0), ("51+", 20, 1.0),
    ]  # fmt: skip
