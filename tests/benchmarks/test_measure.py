"""What a row says was measured: medians, shares, what was left out, gradients, and numbers as they are shown."""

import itertools

import pytest
import torch

from benchmarks import etl, mfalcon, rows
from benchmarks.encoder import in_turn
from benchmarks.measure import GIB, Case, measure, require_known, run
from benchmarks.rows import columns, left_out, multiple, place, ratio, short
from louder.errors import InputError
from louder.inference import index_speed

CPU = torch.device("cpu")
HERE = {"device": "cpu", "threads": 2, "machine": "a machine", "dtype": "float32"}


@pytest.fixture
def clock(monkeypatch):
    """Each run of a candidate takes the next of its seconds; one to warm up and one for the memory come first."""

    def case_of(seconds, **options):
        times = {name: iter(own) for name, own in seconds.items()}
        case = Case("a case", {"things": 100, "dtype": "float32"}, **options)
        for name in seconds:
            case.add(name, lambda name=name: name)
        monkeypatch.setattr("benchmarks.measure.timed", lambda run, device: next(times[run()]))
        return case

    return case_of


def test_a_row_has_the_median_the_least_and_the_most_of_its_runs(clock):
    case = clock({"louder": [3.0, 1.0, 8.0], "naive": [30.0, 20.0, 10.0]}, unit="things")
    louder, naive = measure(case, 3, CPU)
    assert [louder[name] for name in ("median_s", "min_s", "max_s", "runs")] == [3.0, 1.0, 8.0, 3]
    assert (louder["things_per_s"], naive["things_per_s"]) == (33.3, 5.0)
    assert louder["reference"] == naive["reference"] == "louder"


def test_the_time_of_a_share_is_that_of_all():
    case = Case("a case", {})
    case.add("part", lambda: None, share=0.25, measured_things=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.measure.timed", lambda run, device: 2.0)
        (row,) = measure(case, 1, CPU)
    assert (row["median_s"], row["measured_things"]) == (8.0, 4)


def test_candidates_take_turns():
    order = []
    case = Case("a case", {})
    for name in "ab":
        case.add(name, lambda name=name: order.append(name))
    measure(case, 3, CPU)
    assert "".join(order) == "ab" + "ab" + "ababab"  # warm up, memory, times


def test_what_needs_more_than_the_limit_is_left_out():
    case = Case("a case", {}, memory_limit=2.0)
    case.add("fits", lambda: None, needs=2 * GIB)
    case.add("huge", lambda: None, needs=2 * GIB + 1)
    assert set(case.candidates) == {"fits"}
    found = measure(case, 1, CPU)
    assert found[1]["skipped"] == "would need about 2.0 GiB of memory, with a limit of 2"
    assert left_out(found) == ["Not measured: huge; it would need about 2.0 GiB of memory, with a limit of 2."]
    assert len(columns(found)) == 2


def test_a_run_gives_the_gradients_of_the_leaves():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    out, grad = run(lambda: x * x, [x], x)()
    torch.testing.assert_close(out, torch.tensor([4.0, 9.0]))
    assert grad.abs().min() > 0
    again = run(lambda: x * x, [x], x)()[1]
    assert torch.equal(grad, again)  # a fixed gradient of the output
    torch.testing.assert_close(grad / (2 * x.detach()), run(lambda: x * 1.0, [x], x)()[1])
    (alone,) = run(lambda: x * x, [x], None)()
    assert not alone.requires_grad


def test_an_unknown_name_is_told_with_those_known():
    require_known("kind", ["a"], {"a": 1, "b": 2})
    with pytest.raises(InputError, match=r"no kind 'c' to measure\. There are: a, b\."):
        require_known("kind", ["a", "c"], {"a": 1, "b": 2})


def test_turns_begin_again():
    calls = []
    step = in_turn([lambda: calls.append(1), lambda: calls.append(2)])
    for _ in range(3):
        step()
    assert calls == [1, 2, 1]


def test_each_axis_takes_its_turn_while_the_others_have_their_first():
    found = list(mfalcon.turns([4, 1], [10, 20, 30], [7]))
    assert found == [(4, 10, 7), (1, 10, 7), (4, 20, 7), (4, 30, 7)]


def row(name, seconds, reference="louder", memory=1 << 20, **facts):
    return {"case": "a case", "implementation": name, "reference": reference, "median_s": seconds} | {
        **{"min_s": seconds / 2, "max_s": 2 * seconds, "peak_bytes": memory},
        **facts,
    }


def test_a_ratio_is_above_1_where_louder_is_better():
    louder, naive = row("louder", 2.0), row("naive", 6.0, memory=4 << 20)
    assert ratio(naive, louder) == 3.0
    assert ratio(naive, louder, "peak_bytes") == 4.0
    transformer = row("transformer", 6.0, reference="transformer")
    assert ratio(row("louder", 2.0, reference="transformer"), transformer) == 3.0
    assert ratio(naive, None) != ratio(naive, None)  # NaN
    assert ratio(row("none", 1.0, memory=0), row("louder", 1.0, memory=8), "peak_bytes") == 1 / 8


def test_lines_of_a_case_have_ratios_to_its_reference():
    head, *lines = columns([row("louder", 0.002, tokens=5), row("naive", 0.01, memory=3 << 20, tokens=7)])
    assert head == ["implementation", "ms", "min", "max", "time ×", "MiB", "memory ×", "tokens"]
    assert lines[0] == ["louder", "2.0", "1.0", "4.0", "1.00", "1.0", "1.00", "5.0"]
    assert lines[1] == ["naive", "10.0", "5.0", "20.0", "5.00", "3.0", "3.00", "7.0"]
    assert "tokens" not in columns([row("louder", 0.002, tokens=5), row("naive", 0.01, tokens=5)])[0]
    assert columns([row("naive", 0.01)])[1][4] == ""  # nothing to compare with


@pytest.mark.parametrize(
    ("number", "shown"),
    [(561.4, "561"), (100, "100"), (99.96, "100.0"), (1.0, "1.0"), (0.999, "1"), (0.00221, "0.0022"), (0, "0.0")],
)
def test_numbers_are_short(number, shown):
    assert short(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(561.4, "561"), (100, "100"), (24.06, "24.1"), (10, "10.0"), (9.96, "9.96"), (0.1, "0.10"), (0.0876, "0.088")],
)
def test_multiples_are_short(number, shown):
    assert multiple(number) == shown


def test_a_place_is_the_machine_or_the_card():
    assert place(HERE) == "a machine, 2 threads, float32"
    assert place(HERE | {"threads": 1}) == "a machine, 1 thread, float32"
    assert place(HERE | {"device": "A card"}) == "A card, float32"


def test_a_case_of_another_card_or_size_stands_beside_the_first(tmp_path):
    import json

    base = row("louder", 1.0, bench="layer", **HERE)
    others = [base | {"device": "A card"}, base | {"tokens": 9}, base | {"dtype": "bfloat16"}, base | {"bench": "etl"}]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in [base, *others, base | {"median_s": 2.0}])
    )
    found = rows.read(tmp_path)
    assert len(found) == 4  # the ETL has no page
    assert found[-1]["median_s"] == 2.0


# an index ---------------------------------------------------------------------------------------------------------


class Slow:
    """An index that keeps what it is asked."""

    def __init__(self):
        self.asked = []

    def search(self, queries, k):
        self.asked.append((queries[:, 0].tolist(), k))


def test_searches_take_turns_over_all_queries_and_the_first_is_not_counted(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(index_speed.time, "perf_counter", lambda: float(next(ticks)))
    indices = {"a": Slow(), "b": Slow()}
    found = index_speed.latencies(indices, torch.arange(5.0)[:, None], 7, at_once=2, repeats=3)
    assert found == {"a": [0.5] * 3, "b": [0.5] * 3}
    assert indices["a"].asked == indices["b"].asked == [([3, 4], 7), ([0, 1], 7), ([2, 3], 7), ([4, 0], 7)]


def test_a_summary_has_the_median_and_the_99th_percentile():
    seconds = [x / 1000 for x in range(1, 201)]
    found = index_speed.summary(seconds[::-1])
    assert found == {"median_s": 0.1005, "p99_s": 0.198, "min_s": 0.001, "max_s": 0.2, "runs": 200}
    assert index_speed.summary([0.5])["p99_s"] == 0.5


# the ETL ----------------------------------------------------------------------------------------------------------


def test_runs_of_a_process_are_summed_up_and_take_turns():
    order = []

    def way(name, seconds):
        times = iter(seconds)
        return lambda: order.append(name) or (next(times), len(order), 0.5)

    found = etl.interleaved({"louder": way("l", [3.0, 1.0, 2.5]), "pandas": way("p", [9.0, 9.0, 9.0])}, 3)
    assert order == ["l", "p"] * 3
    assert found["louder"] == {"median_s": 2.5, "min_s": 1.0, "max_s": 3.0, "peak_bytes": 5, "cpu_s": 0.5, "runs": 3}


def test_a_process_that_fails_tells_its_last_words():
    with pytest.raises(RuntimeError, match="what went wrong"):
        etl.run("raise ValueError('what went wrong')")
    seconds, peak, processor = etl.run("sum(range(10))")
    assert 0 < processor < 60 and 0 < seconds < 60 and peak > 1 << 20
