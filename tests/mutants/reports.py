"""Mistakes on the pages: a wrong column, a wrong axis, a missing escape, a colour; in the demo, and in docs/hooks."""

from tests.mutants import Mutant

MARKUP, KIT = "louder/reports/markup.py", "tests/reports/test_kit.py"
RUN, FIGURES, RUN_TESTS = (
    "louder/reports/run_page.py",
    "louder/reports/run_figures.py",
    "tests/reports/test_run_page.py",
)
TABLE, TABLE_TESTS = "louder/reports/table_figures.py", "tests/reports/test_table_page.py"
INSPECT, INSPECT_TESTS = "louder/data/inspect.py", "tests/data/test_inspect.py"
REPORT_TESTS, DEMO, DEMO_TESTS = "tests/reports/test_report.py", "louder/cli/demo.py", "tests/test_demo.py"
DOCS_TESTS = "tests/test_docs.py"

MUTANTS = [
    # the kit
    Mutant(MARKUP, "else Html(escape(str(value)))", "else Html(str(value))", KIT),
    Mutant(MARKUP, '="{escape(str(value))}"', '="{value}"', KIT),
    Mutant(MARKUP, '.replace("<", "\\\\u003c")', "", KIT),
    Mutant(MARKUP, "if at >= numbers", "if at > numbers", KIT),
    Mutant(MARKUP, 'class_="marked" if at == marked', 'class_="marked" if at == marked + 1', KIT),
    Mutant(MARKUP, "<title>{text(title)}</title>", "<title>{title}</title>", KIT),
    Mutant(MARKUP, 'or layout.get("annotations") else 10', "else 10", KIT),
    Mutant(MARKUP, "height=220 if columns == 4", "height=220 if columns == 3", KIT),
    Mutant("louder/reports/theme.py", "if (dark.matches) for", "if (!dark.matches) for", KIT),
    Mutant("louder/reports/theme.py", 'dark.addEventListener("change", drawFigures);', "", KIT),
    Mutant("louder/reports/chart.py", "xaxis_title=x, yaxis_title=y", "xaxis_title=y, yaxis_title=x", KIT),
    # a table
    Mutant(TABLE, "x=np.log10(max(median, 1))", "x=max(median, 1)", TABLE_TESTS),
    Mutant(TABLE, "to {b - 1:,} events", "to {b:,} events", TABLE_TESTS),
    Mutant(TABLE, "y=events[rank - 1]", "y=events[rank - 2]", TABLE_TESTS),
    Mutant(TABLE, "counts.time_edges[:-1]) / 2", "counts.time_edges[1:]) / 2", TABLE_TESTS),
    Mutant(TABLE, "edges = GAP_EDGES[bins.start :", "edges = GAP_EDGES[bins.start + 1 :", TABLE_TESTS),
    Mutant("louder/reports/chart.py", "y=[0, *np.repeat(heights, 2)", "y=[*np.repeat(heights, 2)", TABLE_TESTS),
    Mutant(INSPECT, "np.append(tie, False) | ", "", INSPECT_TESTS),
    Mutant(INSPECT, "time[1:] == time[:-1])", "time[1:] >= time[:-1])", INSPECT_TESTS),
    Mutant(INSPECT, "mask >> bit & 1", "mask >> bit + 1 & 1", INSPECT_TESTS),
    Mutant(INSPECT, 'found["tokens"] - found["events"]', 'found["tokens"]', INSPECT_TESTS),
    # a run
    Mutant(RUN, "popular[name], times(", "own[name], times(", RUN_TESTS),
    Mutant(
        RUN,
        'times(result["metrics"][name], result["popularity"]',
        'times(result["popularity"][name], result["metrics"]',
        RUN_TESTS,
    ),
    Mutant(RUN, "earlier + nth", "nth", RUN_TESTS),
    Mutant(RUN, "marked=0 if official else -1", "marked=0", RUN_TESTS),
    Mutant(RUN, "if sample.rank is None", "if sample.rank is not None", RUN_TESTS),
    Mutant(RUN, "result['epoch'] + 1} of", "result['epoch']} of", RUN_TESTS),
    Mutant(FIGURES, "(begin + end) / 2", "(begin + end)", RUN_TESTS),
    Mutant(FIGURES, 'chosen = run.result["epoch"] + 1', 'chosen = run.result["epoch"]', RUN_TESTS),
    Mutant(FIGURES, '("ndcg@10", "NDCG@10", ORANGE)', '("hr@10", "NDCG@10", ORANGE)', RUN_TESTS),
    Mutant(
        "louder/reports/published.py",
        'row("SASRec", README, 0.2853, 0.5474, 0.7528, 0.1603, 0.2185',
        'row("SASRec", README, 0.2853, 0.5474, 0.7528, 0.1603, 0.1603',
        RUN_TESTS,
    ),
    Mutant("louder/reports/samples.py", "rows[-latest:]", "rows[:latest]", REPORT_TESTS),
    Mutant("louder/reports/samples.py", "held_out=item == int(targets[number])", "held_out=False", REPORT_TESTS),
    Mutant("louder/reports/report.py", "    if given is None and not folder", "    if not folder", REPORT_TESTS),
    # the demo, and what the pages of the site are made by
    Mutant(DEMO, "min(manifest.events, manifest.users * config.data.max_len)", "manifest.events", DEMO_TESTS),
    Mutant(DEMO, "sample.history[-6:]", "sample.history[:6]", DEMO_TESTS),
    Mutant(DEMO, "    if name != NAME:", "    if name is None:", DEMO_TESTS),
    Mutant(DEMO, "time_bias=manifest.has_times", "time_bias=True", DEMO_TESTS),
    Mutant(
        "docs/hooks/settings.py", 'configs(held, f"{path}{field.name}.")', 'configs(held, f"{field.name}.")', DOCS_TESTS
    ),
    Mutant("docs/hooks/settings.py", "reversed(cls.__mro__)", "reversed(cls.__mro__[:1])", DOCS_TESTS),
    Mutant("docs/hooks/docstrings.py", "found[-1] = found[-1][0], f", "found[-1] = found[0][0], f", DOCS_TESTS),
    Mutant("docs/hooks/docstrings.py", "<= known:\n            for", ":\n            for", DOCS_TESTS),
]
