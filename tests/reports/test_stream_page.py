"""The page of a stream says what its rows say."""

import json
import re

import pytest

from louder.errors import InputError
from louder.reports.stream_page import write_stream_report

SETTINGS = {"from": "runs/shop", "settings": {"window_s": 900}}


def row(number, **more):
    metrics = {"events": 40, "users": 9}
    for name, value in (("hr@10", 0.1), ("ndcg@10", 0.05), ("log_perplexity", 6.5)):
        metrics |= {name: value + number / 100, f"{name}_interval": [value, value + 0.2]}
    like = {"ne": 0.9, "auc": 0.7 + number / 100, "auc_interval": [0.6, 0.8], "ne_interval": [0.8, 1.0]}
    return {
        "window": number,
        "upto": 1_700_000_000 + 900 * number,
        "users": 9,
        "events": 50,
        "negatives": 20,
        "corrections": 1,
        "unknown": 5,
        "left_out": 0,
        "joined": {"late": 3},
        "lag": 17,
        "version": f"step-{number:08d}",
        "steps": 2,
        "loss": 4.25,
        "seconds": {"test": 0.5, "train": 1.0, "all": 1.7},
        "events_per_s": 29.4,
        "behind_s": 75.0,
        "next_item": metrics,
        "ranking": {"impressions": 60, "actions": {"like": like}},
    } | more


def written(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "stream.json").write_text(json.dumps(SETTINGS))
    (folder / "stream.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    page = write_stream_report(folder).read_text()
    return page[: page.index("<script>/*")] if "<script>/*" in page else page


def test_the_page_of_three_windows(tmp_path):
    rows = [row(1), row(2), row(3, events=0, unknown=0, loss=None, ranking={"impressions": 0}, next_item={"events": 0})]
    page = written(tmp_path / "s", rows)
    text = re.sub(r"<[^>]+>", " ", page)
    assert "runs/shop" in text and "100 events" in text and "10.0%" in text and "1 min 15 s" in text
    titles = re.findall(r"<h3>([^<]+)</h3>", page)
    assert titles[:5] == ["HR@10", "NDCG@10", "Log-perplexity", "like: NE", "like: AUC"]
    assert {"Lag", "Unknown items", "Behind the newest event"} <= set(titles)
    assert "0.1200" in text and "0.1000 to 0.3000" in text  # of the latest window that has one
    assert "Versions" not in text and "of another time" not in text
    page = written(tmp_path / "s", [row(1, behind_s=1e8)])
    assert "of another time" in page and "Behind" not in page


def test_what_the_gate_said(tmp_path):
    rows = [
        row(1, published="live@1-aa", refused=[]),
        row(2, published="live@1-aa", refused=["its ne is 0.9, <and> worse"]),
        row(3, published="live@1-aa", rolled_back=True),
    ]
    page = written(tmp_path / "s", rows)
    assert "1 of 3 windows were published; live@1-aa is served." in page
    assert "its ne is 0.9, &lt;and&gt; worse" in page and "was rolled back" in page


def test_a_stream_without_a_window_says_so(tmp_path):
    (tmp_path / "stream.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(InputError, match="from no window yet"):
        write_stream_report(tmp_path)


def test_the_command_tells_a_stream_from_a_run(tmp_path, louder):
    written(tmp_path / "s", [row(1)])
    code, out, _ = louder("report", tmp_path / "s", "-o", tmp_path / "page.html")
    assert code == 0 and (tmp_path / "page.html").is_file() and "page.html is written" in out
