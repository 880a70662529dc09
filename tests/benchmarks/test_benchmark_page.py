"""What the page draws of measured rows: lines of what has several sizes, bars of the rest, ratios over all cases."""

import json
import math

import pytest

from benchmarks.overview import spans
from benchmarks.page import write_page
from benchmarks.plots import as_lines, colours, draw, spaced
from benchmarks.rows import read

WHERE = {"device": "cpu", "threads": 1, "machine": "a machine", "dtype": "float32"}
SPEEDS = {"louder, cached": 8.0, "louder, cold": 4.0, "one batch": 2.0, "one pass per candidate": 0.1, "dlrm": 1.0}
WEIGHTS = {"louder, cached, bfloat16": ("bfloat16", 0.001), "louder, cached, int8": ("int8", 0.002)}


def measured(bench, case, implementation, seconds, *, reference="louder", memory=1 << 20, **facts):
    row = {"bench": bench, "case": case, "implementation": implementation, "reference": reference, **WHERE}
    return row | {"median_s": seconds, "min_s": seconds, "max_s": seconds, "peak_bytes": memory} | facts


def request(n, m, b, *, kind="request", names=tuple(SPEEDS)):
    sizes = {"tokens": n, "candidates": m, "microbatch": b, "kind": kind, "layers": 2, "width": 8}
    case = f"{kind}, n = {n}, m = {m}, b = {b}"

    def row(name, seconds, **facts):
        speed = {"candidates_per_s": m / seconds}
        return measured("mfalcon", case, name, seconds, reference="louder, cached", **sizes, **speed, **facts)

    rows = [row(name, m / SPEEDS[name]) for name in names]
    if "dlrm" in names:
        rows += [row(name, m / 10, weights=weights, max_error=error) for name, (weights, error) in WEIGHTS.items()]
    return rows


def mfalcon_rows():
    few = "louder, cached", "louder, cold"
    sizes = [(512, 64, 32), (128, 64, 32), (512, 16, 32), (512, 256, 32)]
    rows = [row for one in sizes for row in request(*one)]
    return rows + request(512, 64, 16, names=few) + request(256, 64, 32, kind="one pass", names=(*few, "dlrm"))


def test_mfalcon_is_drawn_by_candidates_microbatch_and_history_with_errors():
    rows = as_lines("mfalcon", mfalcon_rows())
    assert {row["kind"] for row in rows} == {"request"}
    ways, weights = draw("mfalcon", rows, colours(rows))
    drawn = {figure.layout.title.text: {line.name: line for line in figure.data} for figure in ways.figures}
    assert set(drawn["Speed by number of candidates"]) == set(drawn["Speed by length of history"]) == set(SPEEDS)
    assert set(drawn["Speed by microbatch"]) == {"louder, cached", "louder, cold"}  # the others have one microbatch
    assert drawn["Speed by number of candidates"]["one batch"].x == (16, 64, 256)
    assert drawn["Speed by length of history"]["dlrm"].x == (128, 512)
    assert all(figure.layout.xaxis.type == figure.layout.yaxis.type == "log" for figure in ways.figures)
    speed, error = weights.figures
    assert [line.name for line in speed.data] == ["louder, cached", *WEIGHTS]
    assert [line.y for line in error.data] == [(0.001,) * 3, (0.002,) * 3]


def test_one_request_is_bars():
    assert as_lines("mfalcon", request(512, 64, 32)) == []


def attention(kind, n, **seconds):
    shape = {"max_len": n, "kind": kind, "passes": "forward"}
    return [measured("attention", f"{kind}, N = {n}, forward", name, time, **shape) for name, time in seconds.items()]


def test_lines_are_drawn_of_kinds_with_several_lengths_and_bars_of_the_others(tmp_path):
    rows = attention("zipf", 16, louder=1.0, naive=4.0) + attention("zipf", 64, louder=2.0, naive=20.0)
    alone = attention("uniform", 16, louder=1.0, naive=3.0)
    assert as_lines("attention", rows + alone) == rows
    ratios, *others = draw("attention", rows, colours(rows))
    assert not ratios.folded and all(strip.folded for strip in others)
    (figure,) = ratios.figures
    assert {line.name: line.y for line in figure.data} == {"louder": (1.0, 1.0), "naive": (4.0, 10.0)}
    write_page(rows + alone, tmp_path / "bench.html")
    body = (tmp_path / "bench.html").read_text().split("<body>")[1]
    assert body.count('class="bars"') == 1 and "uniform, N = 16, forward" in body


def test_an_implementation_has_one_colour_in_all_figures():
    rows = mfalcon_rows()
    shades = colours(rows)
    lines = [
        line for strip in draw("mfalcon", as_lines("mfalcon", rows), shades) for f in strip.figures for line in f.data
    ]
    assert all(line.line.color == shades[line.name] for line in lines)
    assert len(set(shades.values())) == len(shades)


def test_overview_has_the_least_the_median_and_the_most():
    rows = [row for n, time in ((1, 2.0), (2, 3.0), (3, 8.0)) for row in attention("zipf", n, louder=1.0, naive=time)]
    span = spans(rows)["naive"]
    assert (span.least, span.median, span.most, span.memory, span.cases) == (2.0, 3.0, 8.0, 1.0, 3)


def test_beside_a_transformer_more_is_better_too_and_memory_of_a_share_is_none():
    def row(name, seconds, memory, **facts):
        return measured("encoder", "training", name, seconds, reference="transformer", memory=memory, **facts)

    found = spans([row("transformer", 8.0, 4), row("louder", 2.0, 2), row("part", 16.0, 1, measured_candidates=4)])
    assert (found["louder"].median, found["louder"].memory) == (4.0, 2.0)
    assert found["part"].median == 0.5 and math.isnan(found["part"].memory)


def test_memory_in_the_overview_is_a_median():
    rows = [
        measured("layer", case, name, 1.0, memory=memory)
        for case, others in (("a", 1), ("b", 2), ("c", 9))
        for name, memory in (("louder", 10), ("naive", 10 * others))
    ]
    assert spans(rows)["naive"].memory == 2.0


def test_machines_stand_apart(tmp_path):
    rows = attention("zipf", 16, louder=1.0, naive=4.0)
    other = [row | {"machine": "another", "median_s": 5.0} for row in rows]
    write_page(rows + other, tmp_path / "bench.html")
    body = (tmp_path / "bench.html").read_text().split("<body>")[1]
    assert body.count('<h3 class="place">') == 2
    assert spans(rows + other)["naive"].least == 1.0


def test_page_of_every_bench_with_lines_and_rates(tmp_path):
    rows = mfalcon_rows() + [
        measured("generative", "200 exposures a user", name, time, labels_per_s=800 / time)
        for name, time in (("louder", 1.0), ("one pass an exposure", 80.0))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_page(read(tmp_path), tmp_path / "bench.html")
    body = (tmp_path / "bench.html").read_text().split("<body>")[1]
    for words in "Generative training", "exposures/s", "80.0", "M-FALCON", "one pass, n = 256", "candidates/s", "0.002":
        assert words in body


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [([200, 4096, 8192], ["200", "", "8192"]), ([16, 64, 256], ["16", "64", "256"]), ([7], ["7"])],
)
def test_labels_do_not_run_into_each_other(numbers, labels):
    assert spaced(numbers) == labels
