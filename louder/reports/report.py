"""Read a run, draw the page, write it."""

from pathlib import Path

from louder.data.inspect import TableCounts, count
from louder.data.table import open_table
from louder.errors import InputError
from louder.inference.run import Run
from louder.reports import samples
from louder.reports.markup import write_page
from louder.reports.run import FinishedRun, read_run
from louder.reports.run_page import page


def write_report(run: Path | str, output: Path | str | None = None, *, table: Path | str | None = None) -> Path:
    """One HTML file about a finished run -> where it is; RUN/report.html unless `output` says otherwise.

    Nothing is trained or measured again. Data statistics and sample recommendations need the table: the run's, or
    `table`; where that is gone, the page says so. Raises InputError if the run is not finished or is damaged, or if
    the page cannot be written.
    """
    finished = read_run(run)
    output = Path(output) if output else finished.folder / "report.html"
    write_page(page(finished, *facts_of_table(finished, Path(table) if table else None)), output)
    return output


def facts_of_table(
    run: FinishedRun, given: Path | None
) -> tuple[TableCounts | None, list[samples.Sample], dict[str, str]]:
    """Statistics and samples, and for what is missing the reason. A table that was named must be right."""
    folder = given or Path(run.config.data.table)
    if given is None and not folder.is_dir():
        reason = (
            f"The table {folder} is not there any more. Pass its folder: louder report {run.folder} --table FOLDER."
        )
        return None, [], {"data": reason, "samples": reason}
    counts, drawn, missing = None, [], {}
    try:
        require_own_table(run.folder, folder)
        counts = count(folder)
    except InputError as error:
        if given:
            raise
        missing["data"] = str(error)
    try:
        drawn = samples.draw(run.folder, run.config, open_table(folder))
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
