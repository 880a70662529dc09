"""Tables on the terminal that several commands share."""

import sys
from collections.abc import Collection, Iterable

from louder.results import Row

NEXT_ITEM = "hr@10", "hr@50", "ndcg@10", "mrr"
OF_A_LIST = "hr@10", "ndcg@10", "liked_hr@10", "liked_ndcg@10", "coverage@10", "mean_worth"
METRICS = "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200", "mrr", "coverage@10"


def print_results(results: list[Row]) -> None:
    """Each next-item run by itself; ranking runs beside each other, as far as they were asked the same."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for result in results:
        if "actions" in result:
            groups.setdefault((result["protocol"], result["impressions"]), []).append(result)
        else:
            print_metrics(result)
    for number, group in enumerate(groups.values()):
        if number:
            print()
        print_rankers(group)
    print_answers(results)


def print_answers(results: list[Row]) -> None:
    """The lists of two stages, beside those of one of them and of popularity."""
    for result in results:
        if (answer := result.get("answer")) is None:
            continue
        print(
            f"\nthe whole answer of {result['run']}: {answer['requests']:,} requests of {answer['users']:,} users, "
            f"score = P(next)^{answer['weight']:g} x worth"
        )
        lists = {
            "default": "default",
            "retrieval": "retrieval alone",
            "ranker": "ranker alone",
            "popularity": "popularity",
        }
        rows = [[title, *(shown(answer[name].get(column)) for column in OF_A_LIST)] for name, title in lists.items()]
        print_table(["list", *(column.replace("_", " ") for column in OF_A_LIST)], rows)
        for other in "retrieval", "popularity":
            for what, name in ("HR@10", f"hr_above_{other}"), ("HR@10 of what was liked", f"liked_hr_above_{other}"):
                if (gain := answer[name])["mean"] is not None:
                    interval = f"95 % interval {gain['low']:+.4f} to {gain['high']:+.4f}"
                    print(f"default above {lists[other]}, {what}: {gain['mean']:+.4f} ({interval})")


def print_rankers(results: list[Row]) -> None:
    """The main action with a line for each run; the other actions, values and the next item, briefly; and what each
    run is. Of several runs each has a number, by which the columns go."""
    first, several = results[0], len(results) > 1
    main = first["main"]
    runs = {
        f"{number} {result['run']}" if several else result["run"]: result for number, result in enumerate(results, 1)
    }

    def columns(*metrics: str) -> list[str]:
        return [f"{metric} {number}" if several else metric for number in range(1, len(runs) + 1) for metric in metrics]

    def cells(some: list[Row], group: str, name: str, *keys: str) -> list[str]:
        """Metrics of an action or a value by some of the runs; they may not all have it."""
        return [shown(result[group].get(name, {}).get(key)) for result in some for key in keys]

    def share(action: str) -> str:
        metrics = first["actions"][action]
        return f"{metrics['positives'] / metrics['impressions']:.1%}"

    print(f"{first['part']}: {first['impressions']:,} exposures, {main} in {share(main)}; protocol {first['protocol']}")
    print_table(
        [main, "NE", "AUC", "GAUC", "log-loss", "calibration"],
        [
            [run, *cells([result], "actions", main, "ne", "auc", "gauc_user", "log_loss", "calibration")]
            for run, result in runs.items()
        ],
    )
    print_table(
        ["other actions", "share", *columns("NE", "AUC")],
        [
            [name, share(name), *cells(results, "actions", name, "ne", "auc")]
            for name in first["actions"]
            if name != main
        ],
    )
    values = dict.fromkeys(name for result in results for name in result["values"])
    print_table(["values", *columns("RMSE")], [[name, *cells(results, "values", name, "rmse")] for name in values])
    joint = {run: result["next_item"] for run, result in runs.items() if "next_item" in result}
    print_table(
        ["next item", *NEXT_ITEM],
        [[run, *(shown(metrics[name]) for name in NEXT_ITEM)] for run, metrics in joint.items()],
    )
    costs = "parameters", "flops_per_exposure"
    print_table(
        ["run", "seed", "epoch", "parameters", "FLOPs per exposure"],
        [
            [run, str(result["seed"]), str(result["epoch"] + 1), *(f"{result[cost]:,.0f}" for cost in costs)]
            for run, result in runs.items()
        ],
    )


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Texts in the first column, numbers in the others; a narrow terminal cuts nothing. Silent where there are no rows."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    print()
    for first, *others in [columns, ["─" * width for width in widths], *rows]:
        print("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]))


def shown(metric: float | None) -> str:
    return "–" if metric is None else f"{metric:.4f}"


def print_metrics(result: Row) -> None:
    """One evaluation beside popularity, then by length of history."""
    title = (
        f"{result['run']} on {result['part']}: {result['users']:,} users, {result['items']:,} items, "
        f"protocol {result['protocol']}, epoch {result['epoch'] + 1}"
    )
    if left_out := result["targets_left_out"]:
        print(
            f"{left_out:,} of {result['users']:,} targets were left out as already seen, so they count as misses. Where people come "
            "back to what they had: --set evaluation.seen=none (louder evaluate: --seen none)."
        )
    columns = [result["run"], "popularity"]
    metrics = [[name, shown(result["metrics"][name]), shown(result["popularity"][name])] for name in METRICS]
    print_columns(title, ["metric", *columns], metrics, right=columns)
    columns = ["hr@10", "ndcg@10", "mrr"]
    groups = [
        [group["history"], f"{group['users']:,}", *(shown(group[name]) for name in columns)]
        for group in result["by_length"]
    ]
    columns = ["history", "users", *columns]
    print_columns("by length of history", columns, groups, right=columns)
    columns = ["hr@10", "ndcg@10", "mrr"]
    groups = [[x["gap"], f"{x['users']:,}", *(shown(x[name]) for name in columns)] for x in result.get("by_gap", [])]
    if groups:
        columns = ["at most", "users", *columns]
        print_columns("by time since the latest event", columns, groups, right=columns)
    columns = ["hr@10", "ndcg@10", "mrr"]
    filters = {"window": "those of the model's window", "history": "those of the whole history"}
    groups = [[filters[name], *(shown(x[of]) for of in columns)] for name, x in result.get("by_filter", {}).items()]
    if groups:
        print_columns("by which seen items are left out", ["left out", *columns], groups, right=columns)


def print_columns(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], right: Collection[str] = (), marked: int = -1
) -> None:
    """A table as wide as the screen, its texts as they are: `right` are aligned to that side, row `marked` is green."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for name in columns:
        table.add_column(escape(name), justify="right" if name in right else "left")
    for at, row in enumerate(rows):
        table.add_row(*(escape(str(cell)) for cell in row), style="bold green" if at == marked else "")
    Console().print(table)


def warn_of_skipped(skipped: int) -> None:
    """A line on standard error about events of a history that an answer was made without."""
    if skipped:
        print(f"Skipped {skipped:,} events of the history, whose items the model does not know.", file=sys.stderr)
