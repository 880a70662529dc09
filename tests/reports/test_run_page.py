"""The page about a run, and its figures, from numbers made up here: which number stands in which cell."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from louder.data.inspect import TableCounts, count
from louder.models import HSTUConfig
from louder.reports import published
from louder.reports.run import FinishedRun
from louder.reports.run_figures import POINTS, draw_by_length, draw_loss, draw_selection, draw_speed, training_figures
from louder.reports.run_page import METRICS, item_cell, label, page, span, times
from louder.reports.samples import Line, Sample
from louder.training.config import Config
from tests.data.test_inspect import write

RESULT = {
    "part": "test",
    "users": 40,
    "items": 50,
    "protocol": "validated",
    "epoch": 1,
    "epochs_trained": 4,
    "seed": 7,
    "metrics": {name: (place + 1) / 20 for place, name in enumerate(METRICS)},
    "popularity": {name: (place + 1) / 50 for place, name in enumerate(METRICS)},
    "by_length": [
        {"history": "1-10", "users": 1_300, "hr@10": 0.25, "ndcg@10": 0.125},
        {"history": "11-20", "users": 20, "hr@10": 0.5, "ndcg@10": 0.375},
    ],
    "seen_items_left_out": "history",
    "query_time": "withheld",
    "train_seconds": 3_725.0,
    "machine": "a machine",
    "commit": "abc",
    "threads": 2,
}
LOG = [
    *({"kind": "step", "step": step, "loss": 9.0 - step} for step in (1, 2, 3, 4)),
    {"kind": "epoch", "epoch": 0, "step": 2, "loss": 7.5, "part": "validation", "hr@10": 0.1, "ndcg@10": 0.05}
    | {"events_per_s": 100.0},
    {"kind": "epoch", "epoch": 1, "step": 4, "loss": 5.5, "part": "validation", "hr@10": 0.2, "ndcg@10": 0.15}
    | {"events_per_s": 150.0},
]
RUN = FinishedRun(Path("runs/tiny"), Config(name="tiny", model=HSTUConfig()), RESULT, LOG)
CHOSEN = Line(item=3, title="<Three>", genres="Noir", time=7_200, actions=("liked",))


def changed(**result: object) -> FinishedRun:
    return replace(RUN, result=RESULT | result)


def rows(part: str) -> list[list[str]]:
    """Tables as texts of their cells."""
    lines = re.findall(r"<tr.*?</tr>", part)
    return [
        [unescape(re.sub("<.*?>", "|", cell)).strip("|") for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", line)]
        for line in lines
    ]


def part(shown: str, title: str) -> str:
    return shown.partition(f"<h2>{title}")[2].partition("</section>")[0]


def show(run: FinishedRun = RUN, counts: TableCounts | None = None, samples: tuple[Sample, ...] = ()) -> str:
    return page(run, counts, samples, {"data": "no data & why", "samples": "no samples & why"}).partition("<body>")[2]


def test_each_metric_stands_beside_that_of_popularity() -> None:
    shown = show()
    head, *lines = rows(shown.partition("</table>")[0])
    assert head == ["metric", "tiny", "popularity", "ratio"]
    assert lines[0] == ["HR@1", "0.0500", "0.0200", "2.5"]
    assert lines[-1] == ["Coverage@10", "0.4500", "0.1800", "2.5"]
    assert [line[0] for line in lines] == [label(name) for name in METRICS]
    cards = re.findall(r'<div class="card">(.*?)<b>(.*?)</b><small>popularity (.*?)</small>', shown)
    assert cards == [
        *(("HR@10", "0.1000", "0.0400"), ("NDCG@10", "0.2500", "0.1000")),
        *(("MRR", "0.4000", "0.1600"), ("Coverage@10", "0.4500", "0.1800")),
    ]


def test_what_the_numbers_are_of_is_said() -> None:
    shown = show()
    assert "HSTU on the test part: 40 users, 50 items · protocol validated · epoch 2 of 4 · seed 7" in shown
    assert "Items that the user had before are left out of the ranking." in shown
    assert "The time of the request is withheld from the model." in shown
    assert "which alone chose the epoch" in shown
    assert "4 epochs in 1 h 2 min, evaluation included, on a machine." in shown
    assert "The epoch was chosen by NDCG@10 on the validation part." in shown
    assert "1 epoch in" in show(changed(epochs_trained=1))
    assert "best on the test" in show(changed(protocol="official"))


def test_a_ratio_to_nothing_is_none() -> None:
    assert times(0.5, 0.0) == "–"
    assert times(0.5, 0.2) == "2.5"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (3_600, "1 h 0 min"), (7_260, "2 h 1 min")],
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_loss_is_by_step_and_an_epochs_mean_stands_in_its_middle() -> None:
    figure = draw_loss(RUN)
    steps, epochs = figure.data
    assert (steps.x, steps.y) == ((1, 2, 3, 4), (8.0, 7.0, 6.0, 5.0))
    assert (epochs.x, epochs.y, epochs.text) == ((1, 3), (7.5, 5.5), ("epoch 1", "epoch 2"))
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("step", "training loss")
    assert steps.opacity < 1 and epochs.opacity is None


def test_a_long_curve_is_drawn_as_means() -> None:
    log = [{"kind": "step", "step": step, "loss": 2.0 * step} for step in range(2 * POINTS)]
    (line,) = draw_loss(replace(RUN, log=log)).data
    assert len(line.x) == len(line.y) == POINTS
    assert (line.x[0], line.y[0], line.x[-1], line.y[-1]) == (0.5, 1.0, 2 * POINTS - 1.5, 4 * POINTS - 3)


def test_selection_is_by_epoch_and_the_chosen_one_is_marked() -> None:
    figure = draw_selection(RUN)
    assert {line.name: (line.x, line.y) for line in figure.data} == {
        "HR@10": ((1, 2), (0.1, 0.2)),
        "NDCG@10": ((1, 2), (0.05, 0.15)),
    }
    assert figure.layout.title.text == "On the validation part"
    assert figure.layout.shapes[0].x0 == 2
    note = figure.layout.annotations[0]
    assert (note.text, note.x, note.xanchor) == (" chosen: 2 ", 2, "right")
    assert draw_selection(changed(epoch=0)).layout.annotations[0].xanchor == "left"
    assert figure.layout.xaxis.dtick == 1 and figure.layout.yaxis.rangemode == "tozero"


def test_speed_is_events_a_second_by_epoch() -> None:
    figure = draw_speed(RUN)
    assert (figure.data[0].x, figure.data[0].y) == ((1, 2), (100.0, 150.0))
    assert figure.layout.yaxis.title.text == "events a second"


def test_what_the_log_has_no_rows_of_is_left_out() -> None:
    assert training_figures(replace(RUN, log=[])) == []
    assert len(training_figures(replace(RUN, log=LOG[:4]))) == 1
    without_part = [{key: row[key] for key in row if key != "part"} for row in LOG]
    assert [one.layout.title.text for one in training_figures(replace(RUN, log=without_part))] == [
        "Loss",
        "Speed of training",
    ]
    assert len(training_figures(RUN)) == 3


def test_bars_are_by_length_of_history() -> None:
    first, second = draw_by_length(RUN).data
    assert (first.name, first.y, first.text) == ("HR@10", (0.25, 0.5), ("0.250", "0.500"))
    assert (second.name, second.y) == ("NDCG@10", (0.125, 0.375))
    assert first.x == second.x == ("1-10<br>1,300 users", "11-20<br>20 users")


def test_a_sample_shows_the_past_what_came_and_what_was_offered() -> None:
    past = [Line(item=1, title="One", genres="Drama", time=0), Line(item=2, time=3_660, actions=("watched", "liked"))]
    offered = [Line(item=5, title="Five", score=0.75), replace(CHOSEN, score=0.5, held_out=True)]
    sample = Sample(9, 1_200, past, CHOSEN, 2.0, 1_700, offered)
    shown = part(show(samples=(sample,)), "Sample recommendations")
    history, best = shown.split("Recommended, with scores")
    assert "1 users of the test part" in history and "Times are UTC" in history
    assert "<b>&lt;Three&gt;</b>; the model ranked it 2 of 1,700." in history
    assert "Latest 2 of 1,200 events" in history
    assert rows(history) == [
        ["1970-01-01 00:00", "One|Drama"],
        ["1970-01-01 01:01", "2|watched, liked"],
        ["1970-01-01 02:00", "<Three>|Noir · liked · held out"],
    ]
    assert rows(best) == [["1", "Five", "0.7500"], ["2", "<Three>|Noir · liked · held out", "0.5000"]]
    marked = [line for line in re.findall("<tr.*?</tr>", best) if "marked" in line]
    assert len(marked) == 1 and "Three" in marked[0]


def test_a_sample_without_a_clock_counts_events_and_one_left_out_has_no_rank() -> None:
    past = [Line(item=1), Line(item=2)]
    sample = Sample("u", 3, past, replace(CHOSEN, time=None), None, 20, [Line(item=5, score=1.0)])
    shown = part(show(samples=(sample,)), "Sample recommendations")
    assert [line[0] for line in rows(shown)[:3]] == ["2", "3", "next"]
    assert "it was left out of the ranking, since the user had it before" in shown
    assert "UTC" not in shown and "marked" not in shown.split("Recommended, with scores")[1]
    whole = replace(sample, events=2)
    assert "All 2 of 2 events" in show(samples=(whole,))


def test_an_item_without_anything_known_is_its_id() -> None:
    assert item_cell(Line(item=7)) == "7"
    assert item_cell(Line(item=7), held_out=True) == "7<small>held out</small>"


def test_what_is_missing_says_why() -> None:
    shown = show()
    assert '<p class="note">no data &amp; why</p>' in part(shown, "Data")
    assert '<p class="note">no samples &amp; why</p>' in part(shown, "Sample recommendations")


def test_data_config_and_provenance(tmp_path: Path) -> None:
    counts = count(write(tmp_path / "table"))
    counts.manifest = replace(counts.manifest, sources=[{"path": "a&b.csv", "bytes": 1_234, "sha256": "00ff"}])
    shown = show(counts=counts)
    assert ["users", "3", "1 of them (33.3 %) with one event"] in rows(part(shown, "Data"))
    assert "&lt;log&gt; &amp; co, a sequence table made by <code>louder etl log.csv</code>" in part(shown, "Data")
    assert "name: tiny" in part(shown, "Config") and "max_len:" in part(shown, "Config")
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", part(shown, "Provenance")))
    assert facts == {
        "run": "<code>runs/tiny</code>",
        "commit": "<code>abc</code>",
        "machine": "a machine",
        "threads": "2",
        "log": "a&amp;b.csv, 1,234 bytes, SHA-256 00ff",
    }


def test_published_numbers_stand_under_their_names() -> None:
    named = replace(RUN, config=replace(RUN.config, name="ml1m-hstu-large"))
    shown = part(show(replace(named, result=RESULT | {"protocol": "official", "users": 6_040})), "Published on")
    head, own, *others = rows(shown)
    assert head == ["model", "source", "HR@10", "HR@50", "HR@200", "NDCG@10", "NDCG@50", "NDCG@200"]
    assert own == ["ml1m-hstu-large", "this run", "0.1000", "0.1500", "0.2000", "0.2500", "0.3000", "0.3500"]
    assert ["HSTU", "paper, Table 4", "0.3097", "0.5754", "0.7716", "0.1720", "–", "0.2606"] in others
    assert ["HSTU", "authors' README", "0.3097", "0.5754", "0.7716", "0.1720", "0.2307", "0.2606"] in others
    assert "not of the same data" not in shown
    assert '<tr class="marked"><td>ml1m-hstu-large</td>' in shown
    validated = part(show(named), "Published on")
    assert "louder train ml1m:hstu_large --set protocol=official" in validated
    assert "marked" not in validated and "measured with 40 users; the published numbers are of 6,040" in validated
    assert [line[0] for line in rows(validated)] == ["model", *(row.model for row in published.DATASETS["ml1m"].rows)]


def test_books_are_the_same_data_by_their_items() -> None:
    books = published.for_run("books-hstu")
    assert books is not None
    assert published.other_data(books, {"users": 1, "items": 695_762}) == ""
    assert "with 5 items" in published.other_data(books, {"users": 1, "items": 5})
