"""The page of a ranking run: how good its probabilities are, of which action, where, and what they order for a few people."""

from collections.abc import Sequence

import numpy as np

from louder.data.inspect import TableCounts
from louder.evaluation.ranking_slices import (
    Estimate,
    Grouping,
    Slice,
    by_length,
    by_popularity,
    by_probability,
    by_time,
    item_shares,
    mean_auc,
    slices,
)
from louder.reports.markup import Html, document, figures, joined, section, table, tag
from louder.reports.ranked import Ranked, Shown
from louder.reports.ranking_figures import draw_calibration, draw_ne, draw_slices
from louder.reports.run import FinishedRun
from louder.reports.run_figures import draw_loss, draw_speed
from louder.reports.run_page import (
    PROTOCOLS,
    config_section,
    data_section,
    item_cell,
    label,
    moment,
    number,
    provenance_section,
    training_line,
)
from louder.results import Row

CARDS = {"ne": "NE, lower is better", "auc": "AUC", "gauc_user": "AUC within a user", "calibration": "calibration"}
KINDS = {"dlrm": "DLRM", "wukong": "Wukong", "hstu": "HSTU", "transformer": "Transformer"}
NEXT_ITEM = "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "mrr"
CURVES = 4  # actions whose calibration is drawn, the main one first


def ranking_page(run: FinishedRun, counts: TableCounts | None, ranked: Ranked | None, missing: dict[str, str]) -> str:
    """One HTML document with everything in it; `missing` says why "data", or what is drawn from it ("samples"), is not there."""
    sections = [headline(run), actions_section(run, ranked), other_numbers(run)]
    if ranked is None:
        sections.append(section("Where it is good", "", tag("p", missing.get("samples", ""), class_="note")))
    else:
        sections += [calibration_section(ranked), where_section(ranked)]
    drawn = [figure for figure in (draw_loss(run), draw_ne(run), draw_speed(run)) if figure is not None]
    sections.append(section("Training", training_line(run), figures(drawn, columns=3)))
    if ranked is not None:
        sections.append(users_section(ranked))
    sections += [data_section(counts, missing.get("data", "")), config_section(run), provenance_section(run, counts)]
    return document(f"{run.config.name}: a run of Louder", sections)


def headline(run: FinishedRun) -> Html:
    result = run.result
    main, kind = result["main"], run.config.model.kind
    metrics = result["actions"][main]
    joint = " and retrieves" if "next_item" in result else ""
    facts = (
        f"{KINDS.get(kind, kind)} that ranks{joint}, on the {result['part']} part: {result['impressions']:,} exposures, {main} in "
        f"{metrics['positives'] / metrics['impressions']:.1%} · protocol {result['protocol']} · epoch {result['epoch'] + 1} of "
        f"{result.get('epochs_trained', '?')} · seed {result['seed']}"
    )
    cards = joined(
        tag("div", name, tag("b", number(metrics[key])), tag("small", main), class_="card")
        for key, name in CARDS.items()
    )
    return tag(
        "header",
        tag("h1", run.config.name),
        tag("div", facts, class_="muted"),
        tag("div", cards, class_="cards"),
        tag("p", tag("small", chosen_how(run))),
    )


def chosen_how(run: FinishedRun) -> str:
    if run.config.data.split.kind != "time" or run.result["protocol"] != "validated":
        return PROTOCOLS[run.result["protocol"]]
    return "Protocol validated: the test part comes last, and the validation part before it alone chose the epoch."


def actions_section(run: FinishedRun, ranked: Ranked | None) -> Html:
    """Every action, with intervals where predictions were looked at again."""
    head = ["action", "share", "NE", "of items' shares", "AUC", "AUC within a user", "calibration", "log-loss"]
    rows: list[list[object]] = []
    for at, (name, metrics) in enumerate(run.result["actions"].items()):
        share, ne, gauc, calibration = (
            f"{metrics['positives'] / max(metrics['impressions'], 1):.2%}",
            *(number(metrics[key]) for key in ("ne", "gauc_user", "calibration")),
        )
        base: object = "–"
        if ranked is not None:
            probabilities, labels = ranked.predictions.probabilities[:, at], ranked.predictions.labels[:, at]
            own = whole(ranked, probabilities, labels)
            ne, calibration = (interval_cell(text, x) for text, x in ((ne, own.ne), (calibration, own.calibration)))
            gauc = interval_cell(gauc, mean_auc(probabilities, labels, ranked.predictions.users))
            shares = item_shares(ranked.table, at, ranked.training)[ranked.table.ids[ranked.predictions.rows]]
            base = finite(whole(ranked, shares, labels).ne.value)
        rows.append([name, share, ne, base, number(metrics["auc"]), gauc, calibration, number(metrics["log_loss"])])
    note = (
        "NE is the log-loss over that of always saying the share of positives: below 1 is better than that, and what an item's "
        "own share in training would reach, whoever asks, stands beside it. Calibration is the mean probability over the share: 1 is right."
    )
    below = "" if ranked is None else "Below a number its 95 % interval, from a bootstrap over users."
    names = list(run.result["actions"])
    marked = names.index(run.result["main"]) if len(names) > 1 else ()
    return section("Actions", note, table(head, rows, numbers=1, marked=marked), tag("p", tag("small", below)))


def whole(ranked: Ranked, probabilities: np.ndarray, labels: np.ndarray) -> Slice:
    everything = np.zeros(len(labels), dtype=np.int64)
    return slices(probabilities, labels, ranked.predictions.users, everything, ["all"])[0]


def interval_cell(text: str, found: Estimate) -> Html:
    return joined([text, tag("small", f"{found.low:.4f} to {found.high:.4f}") if np.isfinite(found.low) else ""])


def finite(value: float) -> str:
    return number(value if np.isfinite(value) else None)


def other_numbers(run: FinishedRun) -> Html:
    """Values, the next item of a joint run, and the lists of both together."""
    result, blocks = run.result, []
    if values := result.get("values"):
        rows = [[name, number(x["rmse"]), number(x["mae"]), f"{x['count']:,}"] for name, x in values.items()]
        blocks += [tag("h3", "Values"), table(["value", "RMSE", "MAE", "events"], rows, numbers=1)]
    if following := result.get("next_item"):
        of_action = {f"with {name}": x for name, x in result.get("next_item_by", {}).items()}
        cells = [
            [name, f"{x['targets']:,}", *(number(x.get(key)) for key in NEXT_ITEM)]
            for name, x in {"any": following, **of_action}.items()
        ]
        note = f"Its rank in the whole catalogue of {result['items']:,}."
        head = ["next item", "targets", *map(label, NEXT_ITEM)]
        blocks += [tag("h3", "Next item"), tag("p", note, class_="muted"), table(head, cells, numbers=1)]
    if answer := result.get("answer"):
        blocks += answer_block(answer)
    return tag("section", joined(blocks)) if blocks else Html("")


def answer_block(answer: Row) -> list[Html]:
    columns = "hr@10", "ndcg@10", "liked_hr@10", "liked_ndcg@10", "coverage@10"
    lists = {
        "default": "both stages",
        "retrieval": "retrieval alone",
        "ranker": "ranker alone",
        "popularity": "popularity",
    }
    rows = [[title, *(number(answer[name].get(column)) for column in columns)] for name, title in lists.items()]
    note = f"What louder serve would answer to {answer['requests']:,} requests of {answer['users']:,} users."
    names = [label(column.removeprefix("liked_")) + (" of liked" if "liked" in column else "") for column in columns]
    return [tag("h3", "Lists"), tag("p", note, class_="muted"), table(["list", *names], rows, numbers=1, marked=0)]


# Predictions, looked at again ------------------------------------------------------------------------------------


def calibration_section(ranked: Ranked) -> Html:
    others = [name for name in ranked.actions if name != ranked.main]
    drawn = []
    for name in [ranked.main, *others][:CURVES]:
        probabilities, labels = of_action(ranked, name)
        groups, names = by_probability(probabilities)
        drawn.append(draw_calibration(name, slices(probabilities, labels, ranked.predictions.users, groups, names)))
    note = "Exposures in ten groups of equal size by their probability: how often the action happened in each. On the line is right."
    return section("Calibration", note, figures(drawn))


def where_section(ranked: Ranked) -> Html:
    at, probabilities_labels = ranked.predictions.rows, of_action(ranked, ranked.main)
    sides: list[tuple[str, str, Grouping]] = [
        ("By length of the history", "events before the request", by_length(ranked.table, at)),
        ("By popularity of the item", "exposures in training", by_popularity(ranked.table, at, ranked.training)),
    ]
    if ranked.table.manifest.has_times:
        sides.append(("Over time", "from (UTC)", by_time(ranked.table.times[at])))
    blocks, drawn = [], []
    for title, axis, (groups, names) in sides:
        found = slices(*probabilities_labels, ranked.predictions.users, groups, names)
        drawn.append(draw_slices(title, axis, found))
        blocks.append(tag("details", tag("summary", f"{title}, as numbers"), slice_table(axis, found)))
    note = (
        f"NE of {ranked.main} in groups, each against the share of positives of that group alone, so that a group whose answers are "
        "nearly all alike is the harder one. Bars are 95 % intervals, from a bootstrap over users."
    )
    return section("Where it is good", note, figures(drawn, columns=3), *blocks)


def of_action(ranked: Ranked, name: str) -> tuple[np.ndarray, np.ndarray]:
    at = ranked.actions.index(name)
    return ranked.predictions.probabilities[:, at], ranked.predictions.labels[:, at]


def slice_table(axis: str, found: Sequence[Slice]) -> Html:
    rows: list[list[object]] = [
        [
            x.name,
            f"{x.exposures:,}",
            f"{x.share.value:.2%}",
            f"{x.predicted:.2%}",
            interval_cell(finite(x.ne.value), x.ne),
        ]
        for x in found
    ]
    return table([axis, "exposures", "share", "predicted", "NE"], rows, numbers=1)


# People ----------------------------------------------------------------------------------------------------------


def users_section(ranked: Ranked) -> Html:
    clock = " Times are UTC." if ranked.table.manifest.has_times else ""
    note = (
        f"{len(ranked.users)} users of the test part, drawn at random by the run's seed: what they did before, and what was shown to them "
        f"then, likeliest first, with the probability of {ranked.main}. Where it happened, the row is marked.{clock}"
    )
    return section("Example users", note, joined(user_block(shown, ranked.main) for shown in ranked.users))


def user_block(shown: Shown, main: str) -> Html:
    lines = shown.history
    done = [[moment(line) if line.time is not None else "", item_cell(line)] for line in lines]
    kept = f"{'Latest' if shown.events > len(lines) else 'All'} {len(lines)} of {shown.events:,} events before"
    past = tag("div", tag("h4", kept), table([], done, numbers=9))
    happened = [at for at, line in enumerate(shown.offered) if main in line.actions]
    rows = [
        [place, item_cell(line), f"{line.score:.4f}", "yes" if main in line.actions else "no"]
        for place, line in enumerate(shown.offered, 1)
    ]
    offered = table(["", "shown", f"P({main})", main], rows, numbers=2, marked=happened)
    best = tag("div", tag("h4", "Shown, by probability"), offered)
    return tag("article", tag("h3", f"User {shown.user}"), tag("div", past, best, class_="sides"), class_="sample")
