"""Tables and pages of results, from rows made up here."""

import json

import pytest

from experiments import generative_to_equal_ne, search_page, tables

NE = {"hstu": (0.80, 0.82), "dlrm": (0.90,)}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "BENCHMARKS", tmp_path)
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
    assert tables.TABLES[name]() == ["Not measured yet."]


def test_a_ranker_has_the_mean_and_the_deviation_of_its_seeds(folders):
    rows = [run(model, seed, ne) for model, values in NE.items() for seed, ne in enumerate(values)]
    others = [run("wukong", 0, 0.5, protocol="official"), run("wukong", 0, 0.5, part="validation")]
    others += [run("hstu", 0, 0.2, experiment="ml1m-rank-hstu", main="like")]  # another log's main action
    write(folders / "ranking.jsonl", [run("hstu", 1, 0.1), *rows, *others])  # seed 1 was measured again
    head, _, hstu, dlrm = tables.ranking("kuairand")
    assert cells(head)[:4] == ["model", "NE of click", "AUC of click", "GAUC of click"]
    assert cells(hstu) == [
        *("HSTU", ".8100 ± .0141", ".7000 ± .0000", ".6000 ± .0000", "0, 1", "1,234,567", "89,012", "abc")
    ]
    assert cells(dlrm)[:2] == ["DLRM", ".9000"]
    assert cells(tables.ranking("ml1m")[0])[1] == "NE of like"


def test_the_truth_of_the_synthetic_log_stands_first_and_has_no_seed(folders):
    truth = run("truth", 0, 0.7, experiment="synthetic-rank-truth")
    for name in "seed", "parameters", "flops_per_exposure":
        del truth[name]
    models = {"hstu": 0.71, "without-series": 0.9}
    rows = [run(model, 1, ne, experiment=f"synthetic-rank-{model}") for model, ne in models.items()]
    write(folders / "ranking_synthetic.jsonl", [*rows, truth])
    lines = [cells(line) for line in tables.TABLES["ranking synthetic"]()[2:]]
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
    lines = [cells(line) for line in tables.sizes()[2:]]
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
    write(folders / "generative_ne.jsonl", [row])
    first, second, ratios = [cells(line) for line in tables.generative_ne()[2:]]
    assert first == ["all exposures of a history", "500", ".8500", "2,000", "4.0", "2"]
    assert second == ["a pass for each", "5", ".9000", "40", "8.0", "4"]
    assert ratios[1:] == ["100.0 ×", "", "50.0 ×", "2.0 × as fast", ""]


def test_a_search_has_its_best_and_its_median(folders):
    rows = [trial(n, "hstu", ne, [f"model.layers={n}"] if n else []) for n, ne in enumerate((0.85, 0.80, 0.9))]
    write(folders / "ranking_search.jsonl", [*rows, trial(0, "dlrm", 0.7)])
    _, _, hstu, dlrm = tables.search()
    assert cells(hstu) == ["KuaiRand-Pure", "HSTU", "3", ".8000", ".8500", "`model.layers=1`"]
    assert cells(dlrm)[2:] == ["1", ".7000", ".7000", "those of the recipe"]


def test_mfalcon_has_speed_flops_and_error(folders):
    row = {"case": "n = 8", "reference": "louder, cached", "commit": "abc", "flops_per_candidate": 12_345}
    cached = {"implementation": "louder, cached", "median_s": 0.5, "candidates_per_s": 2048.4}
    int8 = {"implementation": "louder, cached, int8", "median_s": 0.002, "candidates_per_s": 5e5, "max_error": 0.0021}
    write(folders / "mfalcon.jsonl", [row | cached, row | int8])
    head, _, *lines = tables.TABLES["mfalcon"]()
    assert cells(head) == [
        *("case", "implementation", "median ms", "×", "candidates/s", "FLOPs per candidate", "error", "commit")
    ]
    assert cells(lines[0])[2:] == ["500", "1.00", "2,048", "12,345", "", "abc"]
    assert cells(lines[1])[2:] == ["2", "0.004", "500,000", "12,345", "0.002", "abc"]


def test_generative_has_exposures_a_second(folders):
    row = {"case": "8 exposures", "implementation": "louder", "reference": "louder", "median_s": 2.0, "commit": "abc"}
    write(folders / "generative.jsonl", [row | {"labels_per_s": 4000.0}])
    assert cells(tables.TABLES["generative"]()[-1]) == ["8 exposures", "louder", "2,000", "1.00", "4,000", "abc"]


def test_a_page_draws_the_search(tmp_path):
    rows = [trial(n, model, 0.8 + n / 100) for n in range(4) for model in ("hstu", "dlrm")]
    search_page.write_search_page(rows, tmp_path / "search.html")
    text = (tmp_path / "search.html").read_text()
    for words in "kuairand-search", "The best of so many trials", "Learning curves", "the recipe as it is":
        assert words in text
    models = {"hstu": [trial(1, "hstu", 0.7), trial(0, "hstu", 0.9)]}
    assert search_page.draw_best_so_far(models).data[0].y == (0.9, 0.7)


def test_a_target_has_the_ratio_of_each_machine_that_measured_both(folders):
    bench, case, name, other, least = tables.TARGETS[0]

    def rows(machine, **medians):
        facts = {"bench": bench, "case": case, "machine": machine}
        return [{**facts, "implementation": way, "median_s": seconds} for way, seconds in medians.items()]

    write(folders / f"{bench}.jsonl", rows("new", **{name: 0.5, other: 5.0}))
    write(folders / "earlier.jsonl", [*rows("old", **{name: 2.0, other: 4.0}), *rows("half", **{name: 1.0})])
    _, _, new, old = tables.targets()
    assert cells(new) == [case, name, other, f"{least:.2f}", "10.00", "new"]
    assert cells(old)[-2:] == ["2.00", "old"]


def test_a_model_has_the_mean_of_its_seeds(folders):
    def row(seed, value, protocol="validated"):
        metrics = dict.fromkeys(tables.METRICS, value)
        facts = {"experiment": "ml1m-hstu", "protocol": protocol, "seed": seed}
        return facts | {"metrics": metrics, "popularity": dict.fromkeys(tables.METRICS, 0.01)}

    write(folders / "ml1m.jsonl", [row(1, 0.3), row(2, 0.4), row(3, 0.9, "official")])
    _, _, popularity, hstu = tables.ml1m_means("validated")
    assert cells(popularity)[:2] == ["popularity", ".0100"]
    assert cells(hstu) == ["HSTU", *[".3500 ± .0707"] * 4, "2"]


def test_an_index_stands_beside_the_exact_one(folders):
    facts = {"case": "9 items", "reference": "exact", "build_s": 2.04, "recall@100": 0.95, "commit": "abc"}
    speeds = {"exact": (0.004, 0.02), "ivf": (0.001, 0.002)}
    ways = [{"implementation": name, "median_s": half, "p99_s": most} for name, (half, most) in speeds.items()]
    write(folders / "index.jsonl", [{**facts, **way, "index_bytes": 3 << 20} for way in ways])
    _, _, _, ivf = tables.index()
    assert cells(ivf) == ["9 items", "ivf", "2.0", "0.9500", "1", "2", "0.25", "3", "abc"]
