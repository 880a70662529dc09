"""louder data: make, fetch and look at data."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import Interrupted
from louder.folders import require_free, write_text

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

    from louder.data.inspect import TableCounts
    from louder.results import Row

app = typer.Typer(help="Make synthetic logs, fetch public data sets, look at a sequence table.", no_args_is_help=True)
synth = typer.Typer(help="Write a synthetic event log, whose structure is known.", no_args_is_help=True)
app.add_typer(synth, name="synth")

Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write, .parquet or .csv.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same log.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")]


@synth.command()
def dirichlet(
    output: Output,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's size: 128 million events.")] = False,
    records: Annotated[
        int | None, typer.Option(help="Users, in the order of the stream.", show_default="20000")
    ] = None,
    items: Annotated[int | None, typer.Option(help="Ids, once all are released.", show_default="4000")] = None,
    categories: Annotated[int | None, typer.Option(help="Categories of items.", show_default="20")] = None,
    length: Annotated[int | None, typer.Option(help="Events of a user.", show_default="128")] = None,
    initial: Annotated[float, typer.Option(help="Share of the ids that exist from the start.")] = 0.4,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """The paper's non-stationary stream (Appendix C): items are released while it runs.

    Users are numbered in the order of the stream. There is no clock: `timestamp` is the position, and a schema file
    written beside the log says so. Examples:

        louder data synth dirichlet -o logs/stream.parquet

        louder data synth dirichlet -o logs/paper.parquet --paper

        louder data synth dirichlet -o logs/small.csv --records 2000 --items 400 --categories 10
    """
    from louder.data import synthetic

    given = {"records": records, "items": items, "categories": categories, "length": length}
    sizes = (synthetic.PAPER if paper else synthetic.SMALL) | {k: v for k, v in given.items() if v is not None}
    schema = require_free(output.with_suffix(".yaml"), overwrite)
    settings = sizes | {"initial": initial, "seed": seed}
    batches = synthetic.dirichlet(*(sizes[name] for name in given), initial=initial, seed=seed)
    write(batches, output, "dirichlet", settings, sizes["records"] * sizes["length"], overwrite)
    write_schema(schema, {"has_times": False})
    next_step(output, schema)


@synth.command()
def checkerboard(
    output: Output,
    users: Annotated[int, typer.Option(help="How many users.")] = 1000,
    items: Annotated[int, typer.Option(help="How many items.")] = 200,
    length: Annotated[int, typer.Option(help="Events of a user.")] = 20,
    communities: Annotated[int, typer.Option(help="User u only meets items that equal u modulo this.")] = 2,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Even users like even items, odd users odd ones: a model that works recommends nothing else.

    Examples:

        louder data synth checkerboard -o logs/board.csv

        louder data synth checkerboard -o logs/board.parquet --users 5000 --communities 4
    """
    from louder.data import synthetic

    settings = {"users": users, "items": items, "length": length, "communities": communities, "seed": seed}
    batches = synthetic.checkerboard(users, items, length=length, communities=communities, seed=seed)
    write(batches, output, "checkerboard", settings, users * length, overwrite)
    next_step(output)


@synth.command()
def events(
    output: Output,
    n: Annotated[int, typer.Option("--events", help="How many events.")] = 1_000_000,
    users: Annotated[int, typer.Option(help="How many users.")] = 50_000,
    items: Annotated[int, typer.Option(help="How many items.")] = 20_000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Independent events, items by Zipf's law: nothing to learn, for measuring speed.

    Examples:

        louder data synth events -o logs/big.parquet --events 20000000 --users 200000 --items 100000
    """
    from louder.data import synthetic

    settings = {"events": n, "users": users, "items": items, "seed": seed}
    write(synthetic.events(n, users, items, seed), output, "events", settings, n, overwrite)
    next_step(output)


@synth.command()
def demo(output: Output, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """A small film service: 2,000 viewers, 600 invented films, many in series that are seen in order.

    Beside the log it writes the films' titles and genres, and a schema file that names both. Examples:

        louder data synth demo -o logs/demo.parquet
    """
    from louder.data import synthetic

    items = require_free(output.with_name(f"{output.stem}-items.parquet"), overwrite)
    schema = require_free(output.with_suffix(".yaml"), overwrite)
    log, films = synthetic.demo_log(seed)
    write(log.to_batches(), output, "demo", {"seed": seed}, log.num_rows, overwrite)
    synthetic.write_log(films.to_batches(), items, made_by={"kind": "demo items", "seed": seed}, overwrite=overwrite)
    print(f"{films.num_rows:,} films written to {items}")
    write_schema(schema, {"actions": {"watched": "watched", "liked": "liked"}, "items": {"file": items.name}})
    next_step(output, schema)


@synth.command()
def ranking(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    users: Annotated[int, typer.Option(help="How many users; 17000 make a million events.")] = 2000,
    requests: Annotated[int, typer.Option(help="Requests of a user, on average; about two events each.")] = 30,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
) -> None:
    """Items shown, liked and watched, with the true probability of each like: how good can a ranking model be?

    A like depends on the user's mood, an auxiliary series, and on how often the user has liked the item's category
    before: a model that ignores one of them is visibly worse. Beside the log the folder has the series, attributes of
    items and users, a schema file, and truth.parquet with the truth of each row of the log. Examples:

        louder data synth ranking -o logs/ranking

        louder data synth ranking -o logs/ranking-million --users 17000 --seed 1
    """
    from louder.data import synthetic_ranking
    from louder.evaluation.ranking_metrics import RankingMetrics

    require_free(output, overwrite)
    log = synthetic_ranking.ranking_log(users, requests=requests, seed=seed)
    made_by: dict[str, str | int] = {"kind": "ranking", "users": users, "requests": requests, "seed": seed}
    synthetic_ranking.write_ranking_log(log, output, made_by=made_by, overwrite=overwrite)
    print(f"{log.events.num_rows:,} events written to {output / 'log.parquet'}")
    metrics = RankingMetrics(["like"])
    probability, like = log.truth["probability"].to_numpy(), log.events["is_like"].to_numpy()
    metrics.update(probability[:, None], like[:, None], log.events["user_id"].to_numpy())
    best = metrics.report()["actions"]["like"]
    print(
        f"The true probabilities have NE {best['ne']:.4f} and AUC {best['auc']:.4f}: no model is expected to do better."
    )
    next_step(output / "log.parquet", output / "schema.yaml", table=output.name)


@synth.command()
def tastes(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    users: Annotated[int, typer.Option(help="How many users, 256 exposures each; 129000 make 33 million.")] = 2000,
    items: Annotated[int, typer.Option(help="How many items.")] = 24000,
    categories: Annotated[int, typer.Option(help="Their categories.")] = 256,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
) -> None:
    """A harder ranking log with known truth: likes follow from earlier ones at five depths, items follow Zipf's law.

    It is written as it is made, so it may be larger than memory. The column `probability` of the log is the truth, which
    the schema file leaves out. Examples:

        louder data synth tastes -o logs/tastes

        louder data synth tastes -o logs/tastes-33m --users 129000
    """
    import numpy as np

    from louder.data import synthetic_tastes
    from louder.evaluation.ranking_metrics import cross_entropy, normalised_entropy
    from louder.progress import counting

    require_free(output, overwrite)
    world = synthetic_tastes.world(items, categories, seed)
    made_by: dict[str, str | int] = {"kind": "tastes", "users": users, "items": items, "seed": seed}
    sums = np.zeros(2)  # of the truth's log-loss, and of likes

    def seen(batch: "pa.RecordBatch") -> None:
        truth = batch["probability"].to_numpy()
        sums[:] += cross_entropy(truth, truth).sum(), batch["is_like"].to_numpy().sum()

    with counting("events", users * synthetic_tastes.LENGTH) as advance:
        rows = synthetic_tastes.write_tastes_log(
            world, output, users, made_by=made_by, overwrite=overwrite, advance=advance, seen=seen
        )
    best = normalised_entropy(sums[0] / rows, int(sums[1]), rows)
    print(f"{rows:,} events written to {output / 'log.parquet'}")
    print(f"The true probabilities have NE {best:.4f}: no model is expected to do better.")
    next_step(output / "log.parquet", output / "schema.yaml", table=output.name)


@synth.command()
def world(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    users: Annotated[int, typer.Option(help="How many people.")] = 500,
    hours: Annotated[int, typer.Option(help="For how long they are watched.")] = 72,
    launches: Annotated[float, typer.Option(help="Items that are launched in an hour, on average.")] = 4.0,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
) -> None:
    """A world that changes: tastes drift, items are launched every hour and fade, people react to what they are shown.

    Clicks depend on the position, likes come late, and the true probability of each click is known. The log has what was
    done while half of each list was popular and half was any; shown.parquet has all that was shown. Examples:

        louder data synth world -o logs/world

        louder data synth world -o logs/fast --users 2000 --hours 24 --launches 20
    """
    from louder.data.world import World, WorldSettings
    from louder.data.world_log import world_log, write_world_log
    from louder.progress import counting

    require_free(output, overwrite)
    made = World(WorldSettings(users=users, launches=launches, seed=seed))
    with counting("hours", hours) as advance:
        log = world_log(made, hours, advance)
    made_by: dict[str, str | float] = {
        "kind": "world",
        "users": users,
        "hours": hours,
        "launches": launches,
        "seed": seed,
    }
    write_world_log(log, output, made_by=made_by, overwrite=overwrite)
    earned = {name: f"{log.earned[name]:.2f}" for name in ("oracle", "popular", "random", "shown")}
    print(
        f"{log.events.num_rows:,} events written to {output / 'log.parquet'}, {log.shown.num_rows:,} exposures beside it"
    )
    print(
        f"Clicks that a list of ten is expected to get: oracle {earned['oracle']}, popular {earned['popular']}, any "
        f"{earned['random']}; those that were shown {earned['shown']}."
    )
    next_step(output / "log.parquet", output / "log.yaml", table=output.name)


def write(
    batches: "Iterable[pa.RecordBatch]",
    path: Path,
    kind: str,
    settings: Mapping[str, int | float],
    total: int,
    overwrite: bool,
) -> None:
    """Write a log with a progress bar."""
    from louder.data import synthetic
    from louder.progress import counting

    made_by = {"kind": kind, **settings}
    with counting("events", total) as advance:
        rows = synthetic.write_log(batches, path, made_by=made_by, overwrite=overwrite, advance=advance)
    print(f"{rows:,} events written to {path}")


def write_schema(path: Path, schema: Mapping[str, bool | dict[str, str]]) -> None:
    import yaml

    write_text(path, yaml.safe_dump(dict(schema), sort_keys=False))


def next_step(log: Path, schema: Path | None = None, table: str | None = None) -> None:
    meaning = f" --schema {schema}" if schema else ""
    print(f"\nNext: louder etl {log}{meaning} -o tables/{table or log.stem}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, ml-20m, ml-25m, ml-32m, amazon-books or kuairand-pure.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the archive.")] = Path("downloads"),
) -> None:
    """Download a public data set from its publisher, and check that it arrived whole.

    A download that broke off goes on where it stopped. Examples:

        louder data fetch ml-1m

        louder data fetch ml-32m -o /data/archives
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from louder.etl.fetch import dataset
    from louder.etl.fetch import fetch as fetch_archive

    source = dataset(name)
    text = TextColumn("{task.description}")
    columns = text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(source.file, total=None)
        try:
            file = fetch_archive(name, output, lambda done, total: progress.update(task, completed=done, total=total))
        except KeyboardInterrupt:
            raise Interrupted("interrupted. Repeat the command to go on.") from None
    print(f"{file} is there, {file.stat().st_size:,} bytes, checksum right.\n\n{source.licence}")
    print(f"\nNext: louder etl {file} -o tables/{name}")


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(help="Folder of a sequence table, or of an event log.")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="A new event log: a folder, or kafka://HOST:PORT/TOPIC.")
    ],
    speed: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Seconds of events in one of the clock.", show_default="as fast as it goes"),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Begin now, rather than when it was.")] = False,
) -> None:
    """Play what is known as a stream of events, each at its own time.

    Examples:

        louder data replay tables/ml-1m -o events

        louder data replay tables/shop -o kafka://localhost:9092/events --speed 1000 --now
    """
    import time

    from louder.online.replay import replay as play
    from louder.progress import counting

    with counting("records") as advance:
        count = play(source, output, speed=speed, start=int(time.time()) if now else None, on_records=advance)
    print(f"{count:,} records written to {output}")
    print(f"\nNext: louder stream RUN --source {output} -o streams/NAME --until-end")


@app.command()
def inspect(
    table: Annotated[Path, typer.Argument(help="Folder of a sequence table.")],
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with figures, which opens offline.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the statistics as JSON.")] = False,
) -> None:
    """Print what a sequence table holds: users, items, lengths, times, ties, repeats, cold items, actions.

    Examples:

        louder data inspect tables/ml-1m

        louder data inspect tables/ml-1m --html ml-1m.html
    """
    from louder.data import inspect as statistics

    counts = statistics.count(table)
    if page:
        from louder.reports.table_page import write_table_page

        write_table_page(counts, page)
    found = statistics.summary(counts)
    if json_output:
        print(json.dumps(found, indent=1))
        return
    print_statistics(counts, found)
    if page:
        print(f"Figures: {page}")


def print_statistics(counts: "TableCounts", found: "Row") -> None:
    from rich.console import Console
    from rich.table import Table

    from louder.data import inspect as statistics

    console = Console()
    shown = Table(title=found["table"], title_justify="left", show_header=False)
    shown.add_column()
    shown.add_column(justify="right", style="bold")
    shown.add_column(style="dim")
    for row in statistics.rows(found):
        shown.add_row(*row)
    console.print(shown)
    print()
    lengths, users = statistics.length_bins(counts.lengths)
    labels = [f"{a:,}" if a < 2 else f"{a:,} to {2 * a - 1:,}" for a in lengths.tolist()]
    console.print(bars("events a user", "users", labels, users.tolist()))
    if counts.manifest.has_times:
        print()
        console.print(bars("pause between events", "pauses", list(statistics.PAUSES), counts.pauses.tolist()))
        print()
        slices = counts.time_counts.reshape(12, -1).sum(1).tolist()
        starts = [statistics.iso(int(second))[:10] for second in counts.time_edges[:-1:8]]
        console.print(bars("from", "events", starts, slices))


def bars(title: str, what: str, labels: list[str], numbers: list[int]) -> "Table":
    """A histogram of text: a row for each label."""
    from rich.bar import Bar
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, justify="right", min_width=20)
    table.add_column(what, justify="right", min_width=10)
    table.add_column()
    for label, number in zip(labels, numbers):
        table.add_row(label, f"{number:,}", Bar(max(*numbers, 1), 0, number, width=40, color="cyan"))
    return table
