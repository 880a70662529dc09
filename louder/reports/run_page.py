"""The page: its sections in the order of reading."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from louder.config import to_dict
from louder.data.inspect import TableCounts
from louder.reports import published
from louder.reports.markup import Html, details, document, figure, figures, joined, section, table, tag
from louder.reports.run import FinishedRun
from louder.reports.run_figures import draw_by_length, training_figures
from louder.reports.samples import Line, Sample
from louder.reports.table_page import holdings

HEADLINE = "hr@10", "ndcg@10", "mrr", "coverage@10"
METRICS = "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200", "mrr", "coverage@10"
MODELS = {"hstu": "HSTU", "sasrec": "SASRec", "transformer": "Transformer"}
PROTOCOLS = {
    "validated": (
        "Protocol validated: of each user the last event is for testing and the one before for validation, which alone "
        "chose the epoch."
    ),
    "official": (
        "Protocol official, as in the authors' code: training reaches up to the test event, and the epoch is the one "
        "that was best on the test. Do not compare with numbers of protocol validated."
    ),
}
SEEN = {
    "window": "Items in the history that the model was given are left out of the ranking.",
    "history": "Items that the user had before are left out of the ranking.",
    "none": "No item is left out of the ranking.",
}
QUERY_TIME = {
    "request": "The model knows the time of the request.",
    "withheld": "The time of the request is withheld from the model.",
}


def page(run: FinishedRun, counts: TableCounts | None, samples: Sequence[Sample], missing: dict[str, str]) -> str:
    """One HTML document with everything in it. `missing` says why a section, "data" or "samples", is empty."""
    sections = [
        headline(run),
        published_numbers(run),
        section("Training", training_line(run), figures(training_figures(run), columns=3)),
        sample_section(samples, missing.get("samples", "")),
        data_section(counts, missing.get("data", "")),
        config_section(run),
        provenance_section(run, counts),
    ]
    return document(f"{run.config.name}: a run of Louder", sections)


def label(metric: str) -> str:
    """hr@10 -> HR@10"""
    return metric.capitalize() if metric.startswith("coverage") else metric.upper()


# Numbers ---------------------------------------------------------------------------------------------------------


def headline(run: FinishedRun) -> Html:
    result = run.result
    own, popular = ({name: number(result[of][name]) for name in METRICS} for of in ("metrics", "popularity"))
    facts = (
        f"{MODELS[run.config.model.kind]} on the {result['part']} part: {result['users']:,} users, {result['items']:,} items · "
        f"protocol {result['protocol']} · epoch {result['epoch'] + 1} of {result.get('epochs_trained', '?')} · "
        f"seed {result['seed']}"
    )
    cards = joined(
        tag("div", label(name), tag("b", own[name]), tag("small", f"popularity {popular[name]}"), class_="card")
        for name in HEADLINE
    )
    rows = [
        [label(name), own[name], popular[name], times(result["metrics"][name], result["popularity"][name])]
        for name in METRICS
    ]
    notes = [
        PROTOCOLS[result["protocol"]],
        "Every item of the catalogue is ranked; equal scores count half.",
        SEEN.get(result.get("seen_items_left_out", ""), ""),
        QUERY_TIME.get(result.get("query_time", ""), ""),
        "Popularity recommends to everybody what is used most in training.",
    ]
    compared = table(["metric", run.config.name, "popularity", "ratio"], rows, numbers=1)
    return tag(
        "header",
        tag("h1", run.config.name),
        tag("div", facts, class_="muted"),
        tag("div", cards, class_="cards"),
        tag("div", compared, figure(draw_by_length(run)), class_="sides"),
        tag("p", tag("small", " ".join(notes))),
    )


def times(value: float, baseline: float) -> str:
    return f"{value / baseline:.1f}" if baseline else "–"


def published_numbers(run: FinishedRun) -> Html:
    """What others published on this data set; the run stands among them only if its protocol is theirs."""
    dataset = published.for_run(run.config.name)
    if dataset is None:
        return Html("")
    rows: list[list[object]] = [
        [row.model, row.source, *(number(row.metrics.get(name)) for name in published.COLUMNS)] for row in dataset.rows
    ]
    official = run.result["protocol"] == "official"
    if official:
        note = "All of protocol official: the epoch is the one that was best on the test."
        own = [number(run.result["metrics"][name]) for name in published.COLUMNS]
        rows.insert(0, [run.config.name, "this run", *own])
    else:
        recipe = run.config.name.replace("-", ":", 1).replace("-", "_")
        why = (
            "All of protocol official: the authors trained on one more event of each user, and took the epoch that was "
            "best on the test. This run is of protocol validated, so it is not in this table and not to be compared "
            "with it. For a run that is: "
        )
        note = joined([why, tag("code", f"louder train {recipe} --set protocol=official")])
    sources = joined(tag("div", tag("small", f"{name}: {source}.")) for name, source in published.SOURCES.items())
    differs = published.other_data(dataset, run.result)
    return section(
        f"Published on {dataset.title}, protocol official",
        note,
        tag("p", differs, class_="note") if differs else "",
        table(["model", "source", *map(label, published.COLUMNS)], rows, numbers=2, marked=0 if official else ()),
        sources,
    )


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def training_line(run: FinishedRun) -> str:
    result = run.result
    part, epochs = run.config.selection_part, result.get("epochs_trained", "?")
    of = f" of {result['main']}" if run.ranks else ""
    return (
        f"{epochs} epoch{'' if epochs == 1 else 's'} in {span(result.get('train_seconds', 0.0))}, evaluation included, "
        f"on {result.get('machine', 'an unknown machine')}. "
        f"The epoch was chosen by {label(run.config.evaluation.select)}{of} on the {part} part."
    )


def span(seconds: float) -> str:
    """75 -> 1 min 15 s"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# Samples ---------------------------------------------------------------------------------------------------------


def sample_section(samples: Sequence[Sample], missing: str) -> Html:
    if not samples:
        return section("Sample recommendations", "", tag("p", missing, class_="note"))
    times = " Times are UTC." if samples[0].held_out.time is not None else ""
    note = (
        f"{len(samples)} users of the test part, drawn at random by the run's seed: what they did, and what would have "
        f"been recommended just before the event that was held out.{times}"
    )
    return section("Sample recommendations", note, joined(map(sample_block, samples)))


def sample_block(sample: Sample) -> Html:
    target = sample.held_out
    rank = (
        "it was left out of the ranking, since the user had it before"
        if sample.rank is None
        else f"the model ranked it {sample.rank:,g} of {sample.items:,}"
    )
    with_times = target.time is not None
    earlier = sample.events - len(sample.history)
    done = [
        [moment(line) if with_times else earlier + nth, item_cell(line)] for nth, line in enumerate(sample.history, 1)
    ]
    done.append([moment(target) if with_times else "next", item_cell(target, held_out=True)])
    offered = [
        [place, item_cell(line, held_out=line.held_out), f"{line.score:.4f}"]
        for place, line in enumerate(sample.recommended, 1)
    ]
    hit = next((at for at, line in enumerate(sample.recommended) if line.held_out), -1)
    shown = f"{'Latest' if earlier else 'All'} {len(sample.history)} of {sample.events:,} events, and the one held out"
    past = tag("div", tag("h4", shown), table([], done, numbers=9, marked=len(done) - 1))
    best = tag("div", tag("h4", "Recommended, with scores"), table([], offered, numbers=2, marked=hit))
    return tag(
        "article",
        tag("h3", f"User {sample.user}"),
        tag("div", "What came next: ", tag("b", target.name), f"; {rank}.", class_="muted"),
        tag("div", past, best, class_="sides"),
        class_="sample",
    )


def item_cell(line: Line, *, held_out: bool = False) -> Html:
    below = " · ".join(part for part in (line.genres, ", ".join(line.actions)) if part)
    if held_out:
        below = f"{below} · held out" if below else "held out"
    return joined([line.name, tag("small", below) if below else ""])


def moment(line: Line) -> str:
    assert line.time is not None
    return datetime.fromtimestamp(line.time, UTC).strftime("%Y-%m-%d %H:%M")


# Data, config, provenance ----------------------------------------------------------------------------------------


def data_section(counts: TableCounts | None, missing: str) -> Html:
    if counts is None:
        return section("Data", "", tag("p", missing, class_="note"))
    made = joined([f"{counts.manifest.name}, a sequence table made by ", tag("code", counts.manifest.command)])
    return section("Data", made, holdings(counts))


def config_section(run: FinishedRun) -> Html:
    import yaml

    plain = json.loads(json.dumps(to_dict(run.config)))
    shown = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    note = "Everything the run depends on besides the table; louder train reads it from a .yaml file."
    return section("Config", note, tag("details", tag("summary", run.config.name), tag("pre", shown)))


def provenance_section(run: FinishedRun, counts: TableCounts | None) -> Html:
    result = run.result
    facts: list[tuple[str, object]] = [("run", tag("code", run.folder))]
    for name in "command", "date", "Louder", "commit", "machine", "threads", "Python":
        if value := result.get(name.lower()):
            facts.append((name, tag("code", value) if name in ("command", "commit") else value))
    for source in counts.manifest.sources if counts else []:
        facts.append(("log", f"{source['path']}, {source['bytes']:,} bytes, SHA-256 {source['sha256']}"))
    return section("Provenance", "", details(facts))
