"""Tables on the terminal that several commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

METRICS = "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200", "mrr", "coverage@10"


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
