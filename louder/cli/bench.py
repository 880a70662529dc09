"""louder bench: speed and memory, each beside what one would use instead."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Measure speed and memory, beside what one would use instead.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure speed and memory, beside what one would use instead."""


@app.command()
def etl(
    source: Annotated[Path | None, typer.Option(help="A MovieLens-1M archive, zip or folder, beside pandas.")] = None,
    ratings: Annotated[
        int, typer.Option(help="Size of a generated ratings.dat, beside pandas; 0 leaves it out.", min=0)
    ] = 5_000_000,
    events: Annotated[
        int, typer.Option(help="Size of the generated Parquet and CSV, Louder alone; 0 leaves them out.", min=0)
    ] = 20_000_000,
    repeats: Annotated[int, typer.Option(help="Runs of each, one after the other in turn.", min=1)] = 3,
    json: Annotated[Path | None, typer.Option(help="Append the rows to this file of JSON lines.")] = None,
) -> None:
    """Raw log to sequence table, beside the pandas way of the official preprocessing.

    Needs pandas. Each run is a process of its own, and its start and imports count. Examples:

        louder bench etl --source ml-1m.zip --ratings 0 --events 0

        louder bench etl --events 20000000 --json benchmarks/results/etl.jsonl
    """
    from rich.console import Console
    from rich.table import Table

    from louder.errors import InputError
    from louder.etl import bench
    from louder.results import append_row, provenance

    if source and not source.exists():
        raise InputError(f"There is no file or folder {source}. Give a MovieLens-1M archive: --source ml-1m.zip.")
    facts = provenance()
    table = Table("case", "implementation", "median s", "min s", "max s", "CPU s", "peak GiB")

    def add(case: str, implementation: str, row: dict[str, Any]) -> None:
        shown = [f"{row[key]:.2f}" for key in ("median_s", "min_s", "max_s", "cpu_s")]
        table.add_row(case, implementation, *shown, f"{row['peak_bytes'] / (1 << 30):.2f}")
        if json:
            append_row(json, {"bench": "etl", "case": case, "implementation": implementation, **row, **facts})

    with tempfile.TemporaryDirectory(prefix="louder-bench-") as folder, Console(stderr=True).status("measuring"):
        work = Path(folder)
        cases = [(source.stem, source)] if source else []
        if ratings:
            (work / "ratings").mkdir()
            bench.write_ratings(work / "ratings" / "ratings.dat", ratings)
            cases.append((f"generated ratings.dat, {ratings:,} events", work / "ratings"))
        ratios = []
        for case, path in cases:
            rows = bench.beside_pandas(path, work, repeats)
            for implementation, row in rows.items():
                add(case, implementation, row)
            ratios.append((case, rows["pandas"]["median_s"] / rows["louder"]["median_s"]))
        for kind in ("parquet", "csv") if events else ():
            add(f"generated {kind}, {events:,} events", "louder", bench.generated(events, work, kind, repeats))
    Console().print(table)
    for case, ratio in ratios:
        typer.echo(f"{case}: louder is {ratio:.1f} times as fast as pandas, process start and imports counted.")
