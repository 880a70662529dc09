"""Tables and pages of results, from rows made up here."""

import json

import pytest

from experiments import generative_to_equal_ne, search_page
from experiments.tables import lines, ranking, results, speed
from experiments.tables.__main__ import TABLES, rewritten

NE = {"hstu": (0.80, 0.82), "dlrm": (0.90,)}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FOLDERS", (tmp_path,))
    return tmp_path


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def run(model, seed, ne, **changed):
    actions = {"click": {"ne": ne, "auc": 0.7, "gauc_user": 0.6}, "like": {"ne": 9.0, "auc": 0.0, "gauc_user": 0.0}}
    facts = {"experiment": f"kuairand-rank-{model}", "protocol": "validated", "part": "test", "main": "click"}
    sizes = {"parameters": 1_234_567, "flops_per_exposure": 89_012.4, "commit": "abc"}
    return {**facts, "seed": seed, "actions": actions, **sizes, **changed}


def trial(number, model, ne, settings=()):
    curve = [{"epoch": 0, "ne": ne + 0.1, "auc": 0.5}, {"epoch": 1, "ne": ne, "auc": 0.6}]
    facts = {"experiment": "kuairand-search", "model": model, "trial": number, "settings": list(settings)}
    return {**facts, **curve[1], "curve": curve}


@pytest.mark.parametrize(
    "name",
    [
        *("mfalcon", "generative", "targets", "generative ne"),
        *("ranking kuairand", "ranking ml1m", "ranking search", "ranking synthetic", "ranking sizes"),
    ],
)
def test_without_rows_nothing_is_measured_yet(folders, name):
    assert TABLES[name]() == ["Not measured yet."]


def test_a_ranker_has_the_mean_and_the_deviation_of_its_seeds(folders):
    rows = [run(model, seed, ne) for model, values in NE.items() for seed, ne in enumerate(values)]
    others = [run("wukong", 0, 0.5, protocol="official"), run("wukong", 0, 0.5, part="validation")]
    others += [run("hstu", 0, 0.2, experiment="ml1m-rank-hstu", main="like")]  # another log's main action
    write(folders / "ranking.jsonl", [run("hstu", 1, 0.1), *rows, *others])  # seed 1 was measured again
    head, _, hstu, dlrm = ranking.ranking("kuairand")
    assert cells(head)[:4] == ["model", "NE of click", "AUC of click", "GAUC of click"]
    assert cells(hstu) == [
        *("HSTU", ".8100 ± .0141", ".7000 ± .0000", ".6000 ± .0000", "0, 1", "1,234,567", "89,012", "abc")
    ]
    assert cells(dlrm)[:2] == ["DLRM", ".9000"]
    assert cells(ranking.ranking("ml1m")[0])[1] == "NE of like"


def test_the_truth_of_the_synthetic_log_stands_first_and_has_no_seed(folders):
    truth = run("truth", 0, 0.7, experiment="synthetic-rank-truth")
    for name in "seed", "parameters", "flops_per_exposure":
        del truth[name]
    models = {"hstu": 0.71, "without-series": 0.9}
    rows = [run(model, 1, ne, experiment=f"synthetic-rank-{model}") for model, ne in models.items()]
    write(folders / "ranking_synthetic.jsonl", [*rows, truth])
    lines = [cells(line) for line in TABLES["ranking synthetic"]()[2:]]
    assert [line[:2] for line in lines] == [
        ["the true probabilities", ".7000"],
        ["HSTU", ".7100"],
        ["HSTU without the mood", ".9000"],
    ]
    assert lines[0][4:] == ["", "", "", "abc"]


def test_sizes_go_by_log_and_model(folders):
    flops = {"small": 1_000.0, "large": 9_000_000.0}
    measured = [
        run(model, 42, 0.8, size=size, flops_per_exposure=count)
        for model in ("dlrm", "hstu")
        for size, count in flops.items()
    ]
    write(folders / "ranking_sizes.jsonl", measured)
    write(folders / "ranking.jsonl", [run("hstu", 42, 0.7), run("hstu", 43, 0.6), run("wukong", 42, 0.5)])
    lines = [cells(line) for line in ranking.sizes()[2:]]
    assert [line[1:3] for line in lines] == [
        *(["HSTU", "small"], ["HSTU", "the recipe"], ["HSTU", "large"]),
        *(["DLRM", "small"], ["DLRM", "large"]),
    ]
    assert lines[1][3:] == ["1,234,567", "89,012", ".6500 ± .0707", ".7000 ± .0000", "42, 43"]


def test_training_to_equal_ne_is_compared_with_the_best_of_the_slower(folders):
    def points(*values):
        return [{"steps": n, "exposures": 10 * n, "seconds": 2.0 * n, "ne": ne} for n, ne in enumerate(values, 1)]

    generative = [point | {"exposures": 100 * point["exposures"]} for point in points(0.95, 0.85, 0.8)]
    row = generative_to_equal_ne.compared(generative, points(0.99, 0.97, 0.95, 0.9, 0.91))
    assert (row["ne"], row["to_equal_ne"]["generative"]["steps"], row["to_equal_ne"]["impression"]["steps"]) == (
        0.9,
        2,
        4,
    )
    assert row["times_as_fast_to_equal_ne"] == 8.0 / 4.0
    write(folders / "generative_ne.jsonl", [row | {"times_exposures_per_s": 7.0}, row])  # measured again
    first, second, ratios = [cells(line) for line in ranking.generative_ne()[2:]]
    assert first == ["all exposures of a history", "500", ".8500", "2,000", "4.0", "2"]
    assert second == ["a pass for each", "5", ".9000", "40", "8.0", "4"]
    assert ratios[1:] == ["100.0 ×", "", "50.0 ×", "2.0 × as fast", ""]


def test_a_search_has_its_best_and_its_median(folders):
    rows = [trial(n, "hstu", ne, [f"model.layers={n}"] if n else []) for n, ne in enumerate((0.85, 0.80, 0.9))]
    write(folders / "ranking_search.jsonl", [*rows, trial(0, "dlrm", 0.7)])
    _, _, hstu, dlrm = ranking.search()
    assert cells(hstu) == ["KuaiRand-Pure", "HSTU", "3", ".8000", ".8500", "`model.layers=1`"]
    assert cells(dlrm)[2:] == ["1", ".7000", ".7000", "those of the recipe"]


def test_mfalcon_has_speed_flops_and_error(folders):
    row = {"case": "n = 8", "reference": "louder, cached", "commit": "abc", "flops_per_candidate": 12_345}
    cached = {"implementation": "louder, cached", "median_s": 0.5, "candidates_per_s": 2048.4}
    int8 = {"implementation": "louder, cached, int8", "median_s": 0.002, "candidates_per_s": 5e5, "max_error": 0.0021}
    write(folders / "mfalcon.jsonl", [row | cached, row | int8])
    head, _, *lines = TABLES["mfalcon"]()
    assert cells(head) == [
        *("case", "implementation", "median ms", "×", "candidates/s", "FLOPs per candidate", "error", "commit")
    ]
    assert cells(lines[0])[2:] == ["500", "1.00", "2,048", "12,345", "", "abc"]
    assert cells(lines[1])[2:] == ["2", "0.004", "500,000", "12,345", "0.002", "abc"]


def test_generative_has_exposures_a_second(folders):
    row = {"case": "8 exposures", "implementation": "louder", "reference": "louder", "median_s": 2.0, "commit": "abc"}
    write(folders / "generative.jsonl", [row | {"labels_per_s": 4000.0}])
    assert cells(TABLES["generative"]()[-1]) == ["8 exposures", "louder", "2,000", "1.00", "4,000", "abc"]


def test_a_page_draws_the_search(tmp_path):
    rows = [trial(n, model, 0.8 + n / 100) for n in range(4) for model in ("hstu", "dlrm")]
    search_page.write_search_page(rows, tmp_path / "search.html")
    text = (tmp_path / "search.html").read_text()
    for words in "kuairand-search", "The best of so many trials", "Learning curves", "the recipe as it is":
        assert words in text
    models = {"hstu": [trial(1, "hstu", 0.7), trial(0, "hstu", 0.9)]}
    assert search_page.draw_best_so_far(models).data[0].y == (0.9, 0.7)


def test_a_target_has_the_ratio_of_each_machine_that_measured_both(folders):
    bench, case, name, other, least = speed.TARGETS[0]

    def rows(machine, **medians):
        facts = {"bench": bench, "case": case, "machine": machine}
        return [{**facts, "implementation": way, "median_s": seconds} for way, seconds in medians.items()]

    write(folders / f"{bench}.jsonl", rows("new", **{name: 0.5, other: 5.0}))
    write(folders / "earlier.jsonl", [*rows("old", **{name: 2.0, other: 4.0}), *rows("half", **{name: 1.0})])
    _, _, new, old = speed.targets()
    assert cells(new) == [case, name, other, f"{least:.2f}", "10.00", "new"]
    assert cells(old)[-2:] == ["2.00", "old"]


def test_a_model_has_the_mean_of_its_seeds(folders):
    def row(seed, value, protocol="validated"):
        metrics = dict.fromkeys(results.METRICS, value)
        facts = {"experiment": "ml1m-hstu", "protocol": protocol, "seed": seed}
        return facts | {"metrics": metrics, "popularity": dict.fromkeys(results.METRICS, 0.01)}

    write(folders / "ml1m_rebuilt_times.jsonl", [row(1, 0.3), row(2, 0.4), row(3, 0.9, "official")])
    _, _, popularity, hstu = results.ml1m_means("validated")
    assert cells(popularity)[:2] == ["popularity", ".0100"]
    assert cells(hstu) == ["HSTU", *[".3500 ± .0707"] * 4, "2"]


def test_an_index_stands_beside_the_exact_one(folders):
    facts = {"case": "9 items", "reference": "exact", "build_s": 2.04, "recall@100": 0.95, "commit": "abc"}
    speeds = {"exact": (0.004, 0.02), "ivf": (0.001, 0.002)}
    ways = [{"implementation": name, "median_s": half, "p99_s": most} for name, (half, most) in speeds.items()]
    write(folders / "index.jsonl", [{**facts, **way, "index_bytes": 3 << 20} for way in ways])
    _, _, _, ivf = speed.index()
    assert cells(ivf) == ["9 items", "ivf", "2.0", "0.9500", "1", "2", "0.25", "3", "abc"]


def test_runs_go_by_model_and_seed_beside_popularity_and_what_was_published(folders):
    def row(experiment, seed, value, protocol="official"):
        metrics = {name: value + n / 100 for n, name in enumerate(results.METRICS)}
        facts = {"experiment": experiment, "protocol": protocol, "seed": seed, "epoch": 8}
        return facts | {"metrics": metrics, "popularity": dict.fromkeys(results.METRICS, 0.02)}

    rows = [
        row("ml1m-hstu", 2, 0.4),
        row("ml1m-sasrec", 1, 0.2),
        row("ml1m-hstu", 1, 0.3),
        row("ml1m-hstu", 3, 0.9, "x"),
    ]
    write(folders / "ml1m_rebuilt_times.jsonl", rows)
    head, _, popularity, *others = map(cells, results.ml1m("official"))
    assert head == ["model", "HR@10", "NDCG@10", "HR@50", "HR@200", "epoch", "seed"]
    assert popularity == ["popularity", *[".0200"] * 4, "", ""]
    assert [line[0] for line in others] == ["SASRec", "SASRec, as published", "HSTU", "HSTU", "HSTU, as published"]
    assert others[2] == ["HSTU", ".3000", ".3100", ".3200", ".3300", "9", "1"]
    assert others[4] == ["HSTU, as published", ".3097", ".1720", ".5754", ".7716", "", ""]
    assert [line[-1] for line in map(cells, results.ml1m_means("official"))][2:] == ["", "1", "", "2", ""]
    write(folders / "ml1m_rebuilt_times.jsonl", [row("ml1m-hstu", 1, 0.3, "validated")])
    assert len(results.ml1m("validated")) == 4  # nothing was published under this protocol
    assert results.ml1m("official") == ["Not measured yet."]


def test_the_etl_and_the_demo(folders):
    facts = {"machine": "a machine", "commit": "abc", "case": "ml-1m", "implementation": "louder"}
    write(folders / "etl.jsonl", [facts | {"median_s": 1.234, "peak_bytes": 1536 << 20}])
    assert cells(TABLES["etl"]()[-1]) == ["ml-1m", "louder", "1.23", "1,536", "abc"]
    metrics = {"hr@10": 0.1, "ndcg@10": 0.05, "popularity_hr@10": 0.02, "popularity_ndcg@10": 0.01}
    write(folders / "demo.jsonl", [facts | metrics | {"seconds": 59.6}])
    assert cells(TABLES["demo"]()[-1]) == ["60", ".1000", ".0500", ".0200", ".0100", "a machine"]


def test_a_search_under_a_mixture_has_its_recall_beside_brute_force(folders):
    facts = {"case": "random", "reference": "brute force", "commit": "abc"}
    ways = {"brute force": (0.5, 1.0), "louder, average 200": (0.005, 0.98765)}
    write(
        folders / "mol_topk.jsonl",
        [facts | {"implementation": name, "median_s": time, "recall": found} for name, (time, found) in ways.items()],
    )
    _, _, brute, average = map(cells, TABLES["mixtures"]())
    assert brute == ["random", "brute force", "1.0000", "500", "1.00", "abc"]
    assert average == ["random", "average 200", "0.9877", "5", "0.01", "abc"]


def test_the_service_beside_what_was_asked_of_it(folders):
    def row(case, implementation="louder", **facts):
        seen = {"p50_ms": 1.26, "p99_ms": 9.99, "statuses": {"200": 1500, "429": 3}, "requests": 1503}
        return {"bench": "serving", "case": case, "implementation": implementation, **seen, **facts}

    rows = [row(f"{name}, cached, one client") for name in ("retrieve top-100", "recommend, 500 ranked")]
    for name in "retrieve top-100", "recommend, 500 ranked":
        rows += [row(f"{name}, 16 clients", way, per_second=x) for way, x in (("louder", 600.0), ("no-cache", 100.0))]
    rows.append(row("recommend at half of saturation", per_second=50.4, seconds=300.0, mib=[1000, 1100, 1200]))
    hour = "an hour at half of saturation, beside other programs"
    rows.append(row(hour, per_second=20.4, mib=[1000, 1010, *range(1020, 1080)]))
    rows.append(row("recommend at three times saturation", seconds=60.0, recovered_s=0.44))
    rows.append(row("hot reloads", reloads=50, mixed_or_failed=0, versions={"a": 1, "b": 2}))
    rows.append(row("redis gone", seconds=30.0, gone={"history 200": 7, "user 503": 8}, back_after_s=1.23))
    for n, (store, kills) in enumerate((("files", 3), ("files", 20), ("redis", 20))):
        rows.append({"bench": "store_kill", "implementation": store, "kills": kills, "lost": n, "acknowledged": 1000})
    rows.append({"bench": "serving_contract", "failures": {"a": 1, "b": 1}, "cases": 10_001})
    write(folders / "serving.jsonl", rows)
    found = {line[0]: line[1:] for line in map(cells, TABLES["serving"]()[2:])}
    assert found["retrieve 100, kept history, one client"] == ["p50 5 ms, p99 15 ms", "p50 1.3 ms, p99 10.0 ms"]
    assert found["recommend at half of saturation (50 a second), 300 s"][1] == (
        "p50 1.3 ms, p99 10.0 ms; 1,500 with 200, 3 with 429; 1,000 MiB before, 1,100 after a minute, 1,200 after all"
    )
    assert found[f"{hour} (20 a second)"][1].endswith(
        "1,000 MiB before, 1,010 after a minute, 1,033 after a quarter of an hour, 1,079 after all"
    )
    assert found["retrieve top-100, 16 clients, against --no-cache"][1] == "600 against 100 a second: 6.0 times"
    assert found["recommend at three times saturation, 60 s"][1].endswith("3 with 429; 0.4 s")
    assert found["50 hot reloads at half of saturation"][1] == "0 failed or mixed of 1,503, by 2 models"
    assert found["kill -9, 20 times, files"][1] == "1 of 1,000"  # the latest
    assert found["kill -9, 20 times, Redis"][1] == "2 of 1,000"
    assert found["Schemathesis"][1] == "2 of 10,001 cases"
    assert found["Redis gone for 30 s"][1] == "7 history 200, 8 user 503; back after 1.2 s"


def test_what_a_process_and_a_user_take_by_store(folders):
    def row(store, scale):
        speeds = {
            "events_per_second_by_1": 500,
            "p99_ms_by_1": 9.9,
            "events_per_second_by_100": 4000,
            "p99_ms_by_100": 80,
        }
        sizes = {"mib": 900, "cached_bytes": 5e6 * scale, "active_users": 100, "store_bytes": 7e6, "users": 1000}
        return {"bench": "serving", "case": f"sizing, {store}", **speeds, **sizes}

    write(folders / "serving.jsonl", [row("files", 1)])
    assert TABLES["sizing"]() == ["Not measured yet."]
    write(folders / "serving.jsonl", [row("files", 1), row("redis", 2)])
    found = [cells(line) for line in TABLES["sizing"]()[2:]]
    assert [line[1:] for line in found] == [
        ["900 MiB"] * 2,
        ["50 kB", "100 kB"],
        ["7.0 kB"] * 2,
        ["500 (p99 10 ms)"] * 2,
        ["4,000 (p99 80 ms)"] * 2,
    ]


def test_what_users_get_who_did_more_than_is_kept(folders):
    def row(had, off, misses):
        facts = {"had_already": had, "answered": 100, "score_off": off, "misses": misses, "requests": 145}
        return {"bench": "heavy_users", "case": "some", "implementation": "keep 1,000", **facts}

    write(folders / "serving.jsonl", [row(78, 0.109722, 145)])
    assert TABLES["above-keep"]() == ["Not measured yet."]
    write(folders / "serving.jsonl", [row(78, 0.109722, 145), row(5, 0.5, 5), row(0, 0.0, 1)])
    assert [cells(line)[1:] for line in TABLES["above-keep"]()[2:]] == [
        ["78 of 100", "0 of 100"],
        ["0.11", "0"],
        ["145 of 145", "1 of 145"],
    ]


def test_a_page_is_rewritten_between_its_marks_alone(folders):
    facts = {"case": "ml-1m", "implementation": "louder", "median_s": 1.0, "peak_bytes": 1 << 20, "commit": "abc"}
    write(folders / "etl.jsonl", [facts])
    page = "before\n<!-- rows: etl -->\nold\n<!-- end -->\nbetween\n<!-- rows: index -->\n<!-- end -->\nafter\n"
    lines = "\n".join(TABLES["etl"]())
    expected = page.replace("old", lines).replace("index -->\n", "index -->\nNot measured yet.\n")
    assert rewritten(page) == expected
    assert rewritten(expected) == expected


@pytest.mark.parametrize(
    ("ratio", "shown"), [(12.345, "12.35"), (0.01, "0.01"), (0.0099, "0.01"), (0.0044, "0.004"), (0.00996, "0.01")]
)
def test_ratios_are_short(ratio, shown):
    assert lines.times(ratio) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(1.5, "1,500"), (0.01, "10"), (0.00999, "10"), (0.00123, "1.2")])
def test_times_are_short(seconds, shown):
    assert lines.milliseconds(seconds) == shown
