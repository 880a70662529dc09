"""louder report"""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or of a stream.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The HTML file to write.", show_default="RUN/report.html")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML page about a run: metrics, curves, sample recommendations, data, config. Of a stream: metrics by window,
    how far it is behind, what came, what was published.

    Of a ranking run: every action with intervals, calibration, where it is good, and what it orders for a few people; its
    test part is predicted again for that. The page opens without a network, and nothing is trained. Examples:

        louder report runs/ml1m-hstu

        louder report streams/shop

        louder report runs/ml1m-hstu -o hstu.html --table tables/ml-1m

        louder report runs/ml1m-rank-hstu
    """
    from louder.progress import counting
    from louder.reports.report import write_report
    from louder.reports.stream_page import is_stream, write_stream_report

    with counting("predicting") as done:
        file = (
            write_stream_report(run, output)
            if is_stream(run)
            else write_report(run, output, table=table, on_batch=done)
        )
    print(f"{file} is written; it opens in any browser, without a network.")
    if show:
        typer.launch(file.resolve().as_uri())
