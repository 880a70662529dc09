"""louder index"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import InputError
from louder.results import Row

if TYPE_CHECKING:
    from louder.inference.index import Index

OPTIONS = {"ivf": ("lists", "probes"), "hnsw": ("neighbours", "search")}


def index(
    run: Annotated[Path, typer.Argument(help="Folder of a run that predicts the next item.")],
    kind: Annotated[str, typer.Option(help="ivf or hnsw.")],
    lists: Annotated[int | None, typer.Option(help="ivf: lists of items.", show_default="root of the items")] = None,
    probes: Annotated[
        int | None, typer.Option(help="ivf: lists that a search reads.", show_default="an eighth of them, at least 16")
    ] = None,
    neighbours: Annotated[int | None, typer.Option(help="hnsw: of an item.", show_default="32")] = None,
    search: Annotated[int | None, typer.Option(help="hnsw: items that a search keeps.", show_default="128")] = None,
    table: Annotated[Path | None, typer.Option(help="Users to measure with, in place of the run's table.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Index the items of a run's best checkpoint, so that large catalogues are searched faster.

    The index goes to RUN/index, in place of one that is there. How much of the exact answer it finds is measured with
    the states of users of the table, or with items where there is no table. A run trained further needs a new index.
    Examples:

        louder index runs/ml1m-hstu --kind hnsw

        louder index runs/ml1m-hstu --kind ivf --lists 64 --probes 8 --json
    """
    given = {"lists": lists, "probes": probes, "neighbours": neighbours, "search": search}
    settings = {name: value for name, value in given.items() if value is not None}
    if kind not in OPTIONS:
        raise InputError(f"--kind is {kind!r}, but it must be ivf or hnsw: --kind ivf.")
    if stray := [name for name in settings if name not in OPTIONS[kind]]:
        known = " and ".join(f"--{name}" for name in OPTIONS[kind])
        raise InputError(f"--{stray[0]} is of the other kind, and --kind {kind} has {known}: leave --{stray[0]} out.")

    from louder.inference.index import KINDS, Exact, recall
    from louder.inference.index_speed import AT_ONCE, latencies, summary
    from louder.inference.retrieval import open_retrieval
    from louder.inference.stored_index import save

    found = open_retrieval(run, table)
    start = time.perf_counter()
    made, exact = KINDS[kind].build(found.items, **settings), Exact(found.items)
    seconds = time.perf_counter() - start
    facts: Row = {"queries": len(found.queries), "queries_are": found.source, "build_s": round(seconds, 3)}
    for k in 10, 100:
        right, _ = exact.search(found.queries, k)
        facts[f"recall@{k}"] = round(recall(made.search(found.queries, k)[0], right), 4)
    written = save(run, found.folder, made, facts)
    indices: dict[str, Index] = {"exact": exact, kind: made}
    times = {n: latencies(indices, found.queries, 100, n, repeats=max(10, 200 // n)) for n in AT_ONCE}
    speed = {name: {n: summary(times[n][name]) for n in AT_ONCE} for name in indices}
    if json_output:
        print(json.dumps({**written, "latency_by_queries_at_once": speed}))
    else:
        show(run, written, indices, speed)


def show(run: Path, facts: Row, indices: dict[str, "Index"], speed: dict[str, dict[int, dict[str, float]]]) -> None:
    """Both indices as a table of the screen, and where the new one is."""
    from louder.cli.show import print_columns
    from louder.inference.index_speed import AT_ONCE, index_bytes

    title = f"{facts['items']:,} items of width {facts['dimension']}, "
    title += f"{facts['queries']:,} queries that are {facts['queries_are']}"
    columns = ["recall@10", "recall@100", "1 query, ms", "p99", f"of {AT_ONCE[1]}, ms each", "MiB"]
    rows = []
    for name, index in indices.items():
        shares = [1.0 if name == "exact" else facts[f"recall@{k}"] for k in (10, 100)]
        alone, together = (speed[name][n] for n in AT_ONCE)
        times = [1e3 * value for value in (alone["median_s"], alone["p99_s"], together["median_s"])]
        numbers = [f"{share:.4f}" for share in shares] + [f"{time:.3f}" for time in times]
        rows.append([name, *numbers, f"{index_bytes(index) / (1 << 20):.1f}"])
    print_columns(title, ["index", *columns], rows, right=columns)
    chosen = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    print(f"{run / 'index'} is written ({chosen}; built in {facts['build_s']:.1f} s).")
