"""Tables on the terminal that several commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

METRICS = "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200", "mrr", "coverage@10"


def print_results(results: list[dict[str, Any]]) -> None:
    """Each next-item run by itself; ranking runs beside each other."""
    for result in results:
        if "actions" not in result:
            print_metrics(result)
    rankers = [result for result in results if "actions" in result]
    if rankers:
        print_rankers(rankers)


def print_rankers(results: list[dict[str, Any]]) -> None:
    """Every action in a table of its own, the main one first; then values and the next item. A line for each run."""
    from rich.console import Console
    from rich.table import Table

    console, first = Console(), results[0]
    protocols = {result["protocol"] for result in results}
    console.print(f"{first['part']}: {first['impressions']:,} exposures, protocol {' and '.join(sorted(protocols))}")
    names = sorted(first["actions"], key=lambda name: name != first["main"])
    for name in names:
        found = [result["actions"].get(name) for result in results]
        if found[0] is None or found[0]["ne"] is None:
            console.print(f"{name}: all labels are alike, so nothing can be measured")
            continue
        share = found[0]["positives"] / found[0]["impressions"]
        table = Table(title=f"{name} ({share:.1%} of exposures)", title_justify="left")
        table.add_column("run")
        for column in "NE", "AUC", "GAUC by user", "log-loss", "calibration":
            table.add_column(column, justify="right")
        for result, metrics in zip(results, found):
            if metrics:
                keys = "ne", "auc", "gauc_user", "log_loss", "calibration"
                table.add_row(named(result), *("–" if metrics[key] is None else f"{metrics[key]:.4f}" for key in keys))
        console.print(table)
    for group, columns in ("values", ("rmse", "mae")), ("next_item", ("hr@10", "hr@50", "ndcg@10", "mrr")):
        table = Table(title=group.replace("_", " "), title_justify="left")
        for column in "run", *(["value"] if group == "values" else []), *columns:
            table.add_column(column, justify="left" if column in ("run", "value") else "right")
        for result in results:
            entries = result.get(group) or {}
            rows = entries.items() if group == "values" else [("", entries)] if entries else []
            for value, metrics in rows:
                numbers = ["–" if metrics[key] is None else f"{metrics[key]:.4f}" for key in columns]
                table.add_row(named(result), *([value] if value else []), *numbers)
        if table.row_count:
            console.print(table)


def named(result: dict[str, Any]) -> str:
    return f"{result['run']} (seed {result['seed']}, epoch {result['epoch'] + 1})"


def print_metrics(result: dict[str, Any]) -> None:
    """One evaluation beside popularity, then by length of history."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = (
        f"{result['run']} on {result['part']}: {result['users']:,} users, {result['items']:,} items, "
        f"protocol {result['protocol']}, epoch {result['epoch'] + 1}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in result["run"], "popularity":
        table.add_column(name, justify="right")
    for name in METRICS:
        table.add_row(name, f"{result['metrics'][name]:.4f}", f"{result['popularity'][name]:.4f}")
    console.print(table)
    groups = Table(title="by length of history", title_justify="left")
    for name in "history", "users", "hr@10", "ndcg@10", "mrr":
        groups.add_column(name, justify="right")
    for group in result["by_length"]:
        numbers = [f"{group[name]:.4f}" for name in ("hr@10", "ndcg@10", "mrr")]
        groups.add_row(group["history"], f"{group['users']:,}", *numbers)
    console.print(groups)


@contextmanager
def counting(doing: str, what: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for work whose end is not known; yields the function that counts. Silent in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn(doing), BarColumn(), TextColumn("{task.completed:,} " + what), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done: bar.advance(task, done)
