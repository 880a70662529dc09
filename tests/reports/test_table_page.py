"""The page of a table small enough to count by hand: what each figure shows, along which axis."""

import re
from dataclasses import replace

import numpy as np
import pytest

from louder.data.inspect import GAP_EDGES, TableCounts, count
from louder.errors import InputError
from louder.reports.table_figures import (
    draw_activity,
    draw_gaps,
    draw_lengths,
    draw_popularity,
    duration,
    table_figures,
)
from louder.reports.table_page import write_table_page
from tests.data.test_inspect import MANIFEST, NAN, write


@pytest.fixture
def counts(tmp_path):
    return count(write(tmp_path / "table"))


def axes(figure):
    layout = figure.layout
    return layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text, layout.xaxis.type, layout.yaxis.type


def bars(figure):
    """What is read off a histogram: the text of each bar that has a height, and its height."""
    area, points = figure.data
    heights = dict(zip(points.text, points.y))
    assert list(area.y) == [0, *np.repeat(points.y, 2), 0]
    # each point stands inside its bar
    starts, ends = area.x[1:-1:2], area.x[2::2]
    assert all(start < x < end for start, x, end in zip(starts, points.x, ends))
    return {text: height for text, height in heights.items() if height}


def test_lengths_are_users_by_number_of_events(counts):
    figure = draw_lengths(counts)
    assert axes(figure) == ("Events a user", "events (log)", "users", "log", None)
    assert bars(figure) == {"1 events": 1, "2 events": 1, "4 events": 1}
    assert figure.layout.xaxis.tickvals[:6] == (1, 2, 5, 10, 20, 50)
    (line,), (note,) = figure.layout.shapes, figure.layout.annotations
    assert line.x0 == line.x1 == 2  # the median
    assert (note.text, note.x) == (" median 2", pytest.approx(np.log10(2)))


def test_a_bar_of_several_lengths_names_the_last_of_them(counts):
    counts.lengths = np.array([1, 1000, 1000])
    shown = bars(draw_lengths(counts))
    assert list(shown.values()) == [1, 2]
    assert re.fullmatch(r"\d+ to 1,000 events", list(shown)[1])


def test_popularity_is_events_by_rank(counts):
    figure = draw_popularity(counts)
    assert axes(figure) == ("Events of each item, most popular first", "rank (log)", "events (log)", "log", "log")
    assert (figure.data[0].x, figure.data[0].y) == ((1, 2, 3), (3, 2, 2))  # items 2, 0 and 1; cold ones have no place


def test_popularity_of_many_items_keeps_the_ends(counts):
    counts.popularity = np.arange(5000)
    line = draw_popularity(counts).data[0]
    assert line.x[:100] == tuple(range(1, 101))
    assert (line.x[-1], line.y[0], line.y[-1]) == (4999, 4999, 1)
    assert len(line.x) < 500
    assert all(rank + events == 5000 for rank, events in zip(line.x, line.y))


def test_activity_is_events_by_time(counts):
    figure = draw_activity(counts)
    assert axes(figure)[0::2] == ("Events over time", "events", None)
    assert axes(figure)[1] == f"each bar is {duration((90_001 - 50) / 96)}" == "each bar is 16 min"
    (bars,) = figure.data
    shown = {x: y for x, y in zip(bars.x, bars.y) if y}
    # 4 events in the first 937 seconds, one at 4,000, two at the end; a bar is named by its middle
    assert list(shown.values()) == [4, 1, 2]
    assert next(iter(shown)) == "1970-01-01T00:08:38Z"
    assert list(shown)[-1] == "1970-01-02T00:52:12Z"


def test_pauses_are_those_of_a_second_and_more(counts):
    figure = draw_gaps(counts)
    assert axes(figure) == (
        *("Pauses between a user's events", "pause (log); not drawn: 2 within the same second", "pauses", "log", None),
    )
    assert bars(figure) == {"56 s to 1.7 min": 1, "53 min to 1.6 h": 1}  # 60 s and 3,840 s
    ticks = dict(zip(figure.layout.xaxis.ticktext, figure.layout.xaxis.tickvals))
    assert (ticks["1 min"], ticks["1 day"], ticks["30 days"]) == (60, 86_400, 30 * 86_400)
    assert figure.data[0].x[0] in GAP_EDGES


def test_pauses_without_any_in_the_same_second(counts):
    counts.pauses[0] = 0
    assert draw_gaps(counts).layout.xaxis.title.text == "pause (log)"
    counts.gap_counts[:] = 0
    assert bars(draw_gaps(counts)) == {}


def test_without_a_clock_there_is_nothing_over_time(counts):
    counts.manifest = replace(MANIFEST, has_times=False)
    assert [figure.layout.title.text for figure in table_figures(counts)] == [
        "Events a user",
        "Events of each item, most popular first",
    ]


def test_users_without_events_can_be_drawn(tmp_path):
    rows = [(0, [1], [3], [200], [0], [NAN]), (1, [1], [1], [200], [0], [NAN])]
    manifest = replace(MANIFEST, users=2, events=0, tokens=2, first_time=200, last_time=200)
    assert len(table_figures(count(write(tmp_path / "table", manifest, rows)))) == 4


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (5400, "1.5 h"), (86_400, "1 days"), (1e8, "1,157 days")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_page_escapes_what_the_table_says(counts: TableCounts, tmp_path):
    page = tmp_path / "pages" / "table.html"
    counts.manifest = replace(MANIFEST, command="louder etl '<i>.csv'", series={"<u>": 4})
    write_table_page(counts, page)
    text = page.read_text()
    assert "<h1>&lt;log&gt; &amp; co</h1>" in text and "<title>&lt;log&gt; &amp; co: a sequence table</title>" in text
    assert "<code>louder etl &#x27;&lt;i&gt;.csv&#x27;</code>" in text
    assert "series &lt;u&gt;" in text
    assert "<td>users</td><td>3</td><td>1 of them (33.3 %) with one event</td>" in text
    assert text.count("<figure>") == 4


def test_a_page_that_cannot_be_written_is_refused(counts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/page\.html cannot be written .* --html FILE\.html"):
        write_table_page(counts, tmp_path / "file" / "page.html")
    with pytest.raises(InputError, match=r"is a folder, .* Pass --html .*/page\.html"):
        write_table_page(counts, tmp_path)
