"""The command line of the benchmarks: speed and memory, each beside what one would use instead."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from louder.errors import InputError

Json = Annotated[Path | None, typer.Option(help="Append the rows to this file of JSON lines.")]
Repeats = Annotated[int, typer.Option(help="Runs of each, one after the other in turn.", min=1)]
Threads = Annotated[int | None, typer.Option(help="Threads of torch.", min=1, show_default="all cores")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="float32, or bfloat16: of the attention's tensors, elsewhere by autocast.")]
Full = Annotated[bool, typer.Option("--full", help="The whole set of sizes; takes far longer.")]
Memory = Annotated[float, typer.Option(help="GiB; what would need more is left out, and the output says so.")]
Lengths = Annotated[list[int] | None, typer.Option("--length", help="Longest history; may be given again.", min=2)]
Tokens = Annotated[int | None, typer.Option(help="Events in all, about.", min=1)]

app = typer.Typer(
    help="Measure speed and memory, beside what one would use instead.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    repeats: Repeats = 3,
    json: Json = None,
) -> None:
    """Raw log to sequence table, beside the pandas way of the official preprocessing.

    Needs pandas. Each run is a process of its own, and its start and imports count. Examples:

        python -m benchmarks etl --source ml-1m.zip --ratings 0 --events 0

        python -m benchmarks etl --events 20000000 --json benchmarks/results/etl.jsonl
    """
    from rich.console import Console
    from rich.table import Table

    from benchmarks import etl
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
            etl.write_ratings(work / "ratings" / "ratings.dat", ratings)
            cases.append((f"generated ratings.dat, {ratings:,} events", work / "ratings"))
        ratios = []
        for case, path in cases:
            rows = etl.beside_pandas(path, work, repeats)
            for implementation, row in rows.items():
                add(case, implementation, row)
            ratios.append((case, rows["pandas"]["median_s"] / rows["louder"]["median_s"]))
        for kind in ("parquet", "csv") if events else ():
            add(f"generated {kind}, {events:,} events", "louder", etl.generated(events, work, kind, repeats))
    Console().print(table)
    for case, ratio in ratios:
        typer.echo(f"{case}: louder is {ratio:.1f} times as fast as pandas, process start and imports counted.")


@app.command()
def attention(
    kind: Annotated[
        list[str] | None,
        typer.Option(help="uniform, uniform rab, zipf, zipf rab, targets, window. May be given again; all by default."),
    ] = None,
    length: Lengths = None,
    tokens: Tokens = None,
    heads: Annotated[int | None, typer.Option(min=1)] = None,
    width: Annotated[int | None, typer.Option(help="Of a head.", min=1)] = None,
    full: Full = False,
    dtype: Dtype = "float32",
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """The attention op, beside its naive twin, the official padded op and scaled_dot_product_attention.

    Forward, and forward and backward, of 4 heads of 64, where the longest of the histories has 200 or 1024 of 2048
    events; with --full 200, 1024, 4096 or 8192 of 8192. "uniform": all as long as the longest; "zipf": few are.
    "rab": with biases by position and by time. Examples:

        python -m benchmarks attention

        python -m benchmarks attention --kind "zipf rab" --length 2048 --tokens 8192 --dtype bfloat16

        python -m benchmarks attention --full --json benchmarks/results/attention.jsonl
    """
    from benchmarks import attention

    for name in kind or ():
        if name not in attention.KINDS:
            raise InputError(f"There is no kind {name!r}. There are: {', '.join(attention.KINDS)}.")
    sizes = chosen(attention, full, kinds=kind, lengths=length, tokens=tokens, heads=heads, width=width)
    carry_out("attention", attention, sizes | {"dtype": number_type(dtype)}, memory, repeats, threads, device, json)


@app.command()
def layer(
    length: Annotated[int | None, typer.Option(help="Longest history.", min=2)] = None,
    tokens: Tokens = None,
    width: Annotated[int | None, typer.Option(min=1)] = None,
    heads: Annotated[int | None, typer.Option(min=1)] = None,
    full: Full = False,
    dtype: Dtype = "float32",
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """One HSTU layer in training, beside itself with torch ops alone and beside Transformer layers of its width.

    Also the bytes that each keeps for the backward pass. Width 512, 8 heads, 2048 events in histories of up to 512;
    with --full 8192 in up to 1024. Examples:

        python -m benchmarks layer

        python -m benchmarks layer --full --dtype bfloat16 --json benchmarks/results/layer.jsonl
    """
    from benchmarks import layer

    sizes = chosen(layer, full, length=length, tokens=tokens, width=width, heads=heads)
    if sizes["width"] % sizes["heads"]:
        raise InputError(f"--width is {sizes['width']}, but it must be a multiple of --heads, {sizes['heads']}.")
    carry_out("layer", layer, sizes | {"dtype": number_type(dtype)}, memory, repeats, threads, device, json)


@app.command()
def loss(
    full: Full = False,
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """The sampled and the full softmax, beside their naive twins, the official way and cross_entropy.

    A batch of ML-1M; with --full also 8,000 rows, 100,000 items and 512 negatives. Examples:

        python -m benchmarks loss

        python -m benchmarks loss --full --json benchmarks/results/loss.jsonl
    """
    from benchmarks import loss

    carry_out("loss", loss, chosen(loss, full), memory, repeats, threads, device, json)


@app.command()
def step(
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="ml1m:hstu, ml1m:hstu_large, ml1m:sasrec. May be given again; all by default."),
    ] = None,
    users: Annotated[int | None, typer.Option(help="Users of a batch.", min=1)] = None,
    table: Annotated[Path | None, typer.Option(help="Real batches, of this sequence table.")] = None,
    epoch: Annotated[bool, typer.Option("--epoch", help="Also a whole epoch; needs --table.")] = False,
    full: Full = False,
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """One whole training step, beside the same with naive ops and the official, padded way.

    Batches of 32 users like those of ML-1M; with --full 128, as the recipes have. Examples:

        python -m benchmarks step

        python -m benchmarks step --full --table tables/ml-1m --epoch --json benchmarks/results/step.jsonl
    """
    from benchmarks import step

    for name in recipe or ():
        if name not in step.RECIPES:
            raise InputError(f"There is no step of {name!r} to measure. There are: {', '.join(step.RECIPES)}.")
    if epoch and not table:
        raise InputError("--epoch runs through a whole table. Say which: --table tables/ml-1m.")
    sizes = chosen(step, full, names=recipe, users=users, table=table) | {"epoch": epoch}
    carry_out("step", step, sizes, memory, repeats, threads, device, json)


@app.command()
def encoder(
    length: Lengths = None,
    tokens: Annotated[int | None, typer.Option(help="Users times the longest history.", min=1)] = None,
    layers: Annotated[int | None, typer.Option(min=1)] = None,
    full: Full = False,
    dtype: Dtype = "float32",
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """HSTU's encoder with stochastic length, beside a Transformer on padded full histories: the paper's figure 5.

    Training with alpha 1.6 to 2.0, and inference. 2 layers of width 512 and 8 heads; 4 users of up to 1024 events and
    2 of up to 2048; with --full 16 users of up to 1024 events to 2 of up to 8192. Examples:

        python -m benchmarks encoder

        python -m benchmarks encoder --length 8192 --tokens 32768 --repeats 3

        python -m benchmarks encoder --full --json benchmarks/results/encoder.jsonl
    """
    from benchmarks import encoder

    sizes = chosen(encoder, full, lengths=length, tokens=tokens, layers=layers)
    carry_out("encoder", encoder, sizes | {"dtype": number_type(dtype)}, memory, repeats, threads, device, json)


@app.command()
def mfalcon(
    full: Full = False,
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """M-FALCON: candidates scored against one history, beside a pass without memory, a pass for each, and a DLRM.

    A history that was remembered or is computed in the request, by its length, by the number of candidates and by the
    microbatch; also with bfloat16 and int8 weights. Examples:

        python -m benchmarks mfalcon

        python -m benchmarks mfalcon --full --json benchmarks/results/mfalcon.jsonl
    """
    from benchmarks import mfalcon

    carry_out("mfalcon", mfalcon, chosen(mfalcon, full), memory, repeats, threads, device, json)


@app.command()
def generative(
    exposures: Annotated[
        list[int] | None, typer.Option("--exposures", help="Of each user; may be given again.", min=2)
    ] = None,
    full: Full = False,
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Generative training of a ranker, all exposures of a history in one pass, beside a pass for each exposure.

    Users with 50 or 200 exposures; with --full 200 or 1000. Examples:

        python -m benchmarks generative

        python -m benchmarks generative --full --json benchmarks/results/generative.jsonl
    """
    from benchmarks import generative

    sizes = chosen(generative, full, exposures=exposures)
    carry_out("generative", generative, sizes, memory, repeats, threads, "cpu", json)


@app.command()
def index(
    items: Annotated[list[int] | None, typer.Option("--items", help="May be given again.", min=100)] = None,
    kind: Annotated[list[str] | None, typer.Option(help="ivf, hnsw. May be given again; both by default.")] = None,
    full: Full = False,
    repeats: Annotated[int, typer.Option(help="Searches of each, one after the other in turn.", min=1)] = 200,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """The exact index beside IVF and HNSW: time to build, the share of the best 100 that is found, time to search.

    10,000 and 100,000 clustered items of width 64, with 1 query and with 64 at once; with --full 1,000,000 too, where
    HNSW takes several minutes to build. Needs faiss. Examples:

        python -m benchmarks index

        python -m benchmarks index --items 1000000 --kind ivf

        python -m benchmarks index --full --json benchmarks/results/index.jsonl
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from benchmarks import index
    from louder.inference.index import faiss
    from louder.results import append_row, provenance

    for name in kind or ():
        if name not in index.BUILDERS:
            raise InputError(f"There is no kind {name!r}. There are: {', '.join(index.BUILDERS)}.")
    if threads:
        torch.set_num_threads(threads)
    faiss().omp_set_num_threads(torch.get_num_threads())
    facts = provenance()
    shown = Table("case", "index", "build s", "recall@100", "median ms", "p99 ms", "MiB")
    with Console(stderr=True).status("measuring: index"):
        for rows in index.rows(**chosen(index, full, sizes=items, kinds=kind), repeats=repeats):
            for row in rows:
                times = [f"{1e3 * row[name]:.3f}" for name in ("median_s", "p99_s")]
                found, size = f"{row['recall@100']:.4f}", f"{row['index_bytes'] / (1 << 20):.1f}"
                shown.add_row(row["case"], row["implementation"], f"{row['build_s']:.1f}", found, *times, size)
                if json:
                    append_row(json, {"bench": "index", **row, **facts})
    Console().print(shown)


@app.command()
def mol(
    run: Annotated[Path | None, typer.Option(help="Also the catalogue and the users of a run with a mixture.")] = None,
    items: Annotated[
        list[int] | None, typer.Option("--items", help="Of a random catalogue; may be given again.", min=1)
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="How many items to find.", min=1)] = None,
    users: Annotated[int | None, typer.Option(help="Asked for at once.", min=1)] = None,
    full: Full = False,
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """The best items under a mixture of logits: RAILS' searches beside a score for every item, with their recall.

    32 users, a random catalogue of 10,000 items; with --full also of 100,000. Examples:

        python -m benchmarks mol --run runs/ml1m-hstu-large-mol

        python -m benchmarks mol --full -k 100 --json benchmarks/results/mol_topk.jsonl
    """
    from benchmarks import mol_topk

    sizes = chosen(mol_topk, full, run=run, items=items, k=k, users=users)
    if sizes["k"] > min(sizes["items"]):
        raise InputError(f"-k is {sizes['k']}, but a catalogue has {min(sizes['items'])} items: ask for fewer.")
    carry_out("mol_topk", mol_topk, sizes, memory, repeats, threads, "cpu", json)


@app.command("all")
def everything(
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML page to write.")] = Path("bench.html"),
    source: Annotated[
        Path | None, typer.Option("--from", help="Measure nothing: draw the rows of a file, or of a folder's files.")
    ] = None,
    full: Full = False,
    dtype: Dtype = "float32",
    memory: Memory = 8.0,
    repeats: Repeats = 5,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = None,
) -> None:
    """Attention, layer, loss, step and encoder, one after the other, and a page with plots and tables of them.

    With --from the page has everything that was measured before, M-FALCON and generative training too.

    Examples:

        python -m benchmarks all -o bench.html

        python -m benchmarks all --full --json benchmarks/results/bench.jsonl

        python -m benchmarks all --from benchmarks/results
    """
    from benchmarks import attention, encoder, layer, loss, step
    from benchmarks.page import write_page
    from benchmarks.rows import read

    rows: list[dict[str, Any]] = []
    if source:
        rows = read(source)
    else:
        number = {"dtype": number_type(dtype)}
        benches: dict[str, tuple[Any, dict[str, Any]]] = {
            "attention": (attention, number),
            "layer": (layer, number),
            "loss": (loss, {}),
            "step": (step, {}),
            "encoder": (encoder, number),
        }
        for name, (module, given) in benches.items():
            sizes = chosen(module, full) | given
            rows += carry_out(name, module, sizes, memory, repeats, threads, device, json)
    write_page(rows, output)
    typer.echo(f"{output} is written; it opens in any browser, without a network.")


def main() -> None:
    """Run a command. A mistake of the user's is one sentence on standard error, with exit code 2."""
    try:
        app(prog_name="python -m benchmarks")
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)


def chosen(module: Any, full: bool, **given: Any) -> dict[str, Any]:
    """The sizes of a bench, with those that were given on the command line in place of its own."""
    return (module.FULL if full else module.QUICK) | {name: value for name, value in given.items() if value is not None}


def number_type(name: str) -> Any:
    import torch

    if name not in ("float32", "bfloat16"):
        raise InputError(f"--dtype is {name!r}, but it must be float32 or bfloat16.")
    return getattr(torch, name)


def carry_out(
    name: str,
    module: Any,
    sizes: dict[str, Any],
    memory: float,
    repeats: int,
    threads: int | None,
    device: str,
    json: Path | None,
) -> list[dict[str, Any]]:
    """Measure every case of a bench, show it, and append its rows to the file."""
    import torch
    from rich.console import Console

    from benchmarks.measure import measure
    from louder.results import append_row, provenance
    from louder.training.loop import choose_device

    where = choose_device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no GPU that torch can use. Measure on the processor: --device cpu.")
    if threads:
        torch.set_num_threads(threads)
    facts, console, rows = provenance(), Console(), []
    with Console(stderr=True).status(f"measuring: {name}") as status:
        for case in module.cases(**sizes, device=where, memory=memory):
            status.update(f"measuring: {case.name}")
            measured = [{"bench": name, **row, **facts} for row in measure(case, repeats, where)]
            console.print(shown(measured))
            for row in measured:
                if json:
                    append_row(json, row)
            rows += measured
    return rows


def shown(rows: list[dict[str, Any]]) -> Any:
    """The rows of one case as a table of the screen."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from benchmarks.rows import columns, left_out

    head, *lines = columns(rows)
    title = f"{rows[0]['case']} (× is beside {rows[0]['reference']})"
    caption = "\n".join(left_out(rows))
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for at, name in enumerate(head):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table
