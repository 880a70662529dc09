"""Read a run, draw the page, write it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from louder.data.inspect import TableCounts, count
from louder.data.table import open_table
from louder.errors import InputError
from louder.inference.run import Run
from louder.reports import samples
from louder.reports.markup import write_page
from louder.reports.ranked import look
from louder.reports.ranking_page import ranking_page
from louder.reports.run import FinishedRun, read_run
from louder.reports.run_page import page

T = TypeVar("T")


def write_report(
    run: Path | str,
    output: Path | str | None = None,
    *,
    table: Path | str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Path:
    """One HTML file about a finished run -> where it is; RUN/report.html unless `output` says otherwise.

    Nothing is trained again, and the numbers are those of the run. Data statistics and sample recommendations need the table:
    the run's, or `table`; where that is gone, the page says so. So do intervals and groups of a ranking run, whose test part
    is predicted again: `on_batch(exposures)` after each batch. Raises InputError if the run is not finished or is damaged, or
    if the page cannot be written.
    """
    finished, given = read_run(run), Path(table) if table else None
    output = Path(output) if output else finished.folder / "report.html"
    if finished.ranks:
        counts, ranked, missing = facts_of_table(
            finished, given, lambda folder: look(finished.folder, finished.config, folder, on_batch)
        )
        write_page(ranking_page(finished, counts, ranked, missing), output)
    else:
        counts, drawn, missing = facts_of_table(
            finished, given, lambda folder: samples.draw(finished.folder, finished.config, open_table(folder))
        )
        write_page(page(finished, counts, drawn or [], missing), output)
    return output


def facts_of_table(
    run: FinishedRun, given: Path | None, drawn_from: Callable[[Path], T]
) -> tuple[TableCounts | None, T | None, dict[str, str]]:
    """Statistics, and what is drawn from the table; for what is missing the reason. A table that was named must be right."""
    folder = given or Path(run.config.data.table)
    if given is None and not folder.is_dir():
        reason = (
            f"The table {folder} is not there any more. Pass its folder: louder report {run.folder} --table FOLDER."
        )
        return None, None, {"data": reason, "samples": reason}
    counts, drawn, missing = None, None, {}
    try:
        require_own_table(run.folder, folder)
        counts = count(folder)
    except InputError as error:
        if given:
            raise
        missing["data"] = str(error)
    try:
        drawn = drawn_from(folder)
    except InputError as error:
        if given:
            raise
        missing["samples"] = str(error)
    return counts, drawn, missing


def require_own_table(run: Path, table: Path) -> None:
    """Raises InputError if the run was made with another table. One without its checkpoints cannot tell."""
    try:
        opened = Run.open(run)
    except InputError:
        return
    opened.require_table(table)
