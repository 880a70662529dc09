"""The page about a sequence table: what it holds, in numbers and in figures."""

from pathlib import Path

from louder.data.inspect import TableCounts, rows, summary
from louder.reports.markup import Html, document, figures, joined, table, tag, write_page
from louder.reports.table_figures import table_figures


def write_table_page(counts: TableCounts, path: Path) -> None:
    """Raises InputError if the page cannot be written there."""
    manifest = counts.manifest
    made_by = joined([f"A sequence table made by Louder {manifest.louder}: ", tag("code", manifest.command)])
    header = tag("header", tag("h1", manifest.name), tag("p", made_by, class_="muted"))
    write_page(document(f"{manifest.name}: a sequence table", [header, holdings(counts)]), path, option="--html")


def holdings(counts: TableCounts) -> Html:
    """Numbers and figures, as the page about a run shows them too."""
    numbers = tag("div", table([], rows(summary(counts)), numbers=9), class_="data")
    return joined([numbers, figures(table_figures(counts))])
