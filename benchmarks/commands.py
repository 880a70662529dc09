"""Measure speed and memory, beside what one would use instead."""

import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from benchmarks.rows import columns, left_out
from louder.errors import InputError
from louder.results import Row, append_row, provenance

if TYPE_CHECKING:
    from rich.table import Table

Json = Annotated[Path | None, typer.Option(help="Append the rows to this file of JSON lines.")]
Repeats = Annotated[int, typer.Option(help="Runs of each, one after the other in turn.", min=1)]
Threads = Annotated[int | None, typer.Option(help="Threads of torch.", min=1, show_default="all cores")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="float32, or bfloat16: of the attention's tensors, elsewhere by autocast.")]
Full = Annotated[bool, typer.Option("--full", help="The whole set of sizes; takes far longer.")]
Memory = Annotated[float, typer.Option(help="GiB; what would need more is left out, and the output says so.")]
Count = Annotated[int | None, typer.Option(min=1)]
Longest = Annotated[int | None, typer.Option(help="Longest history.", min=2)]
Lengths = Annotated[list[int] | None, typer.Option("--length", help="Longest history; may be given again.", min=2)]
Tokens = Annotated[int | None, typer.Option(help="Events in all, about.", min=1)]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="May be given again; all by default.")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="May be given again; all by default.")]
Users = Annotated[int | None, typer.Option(help="Users at once.", min=1)]
RealTable = Annotated[Path | None, typer.Option(help="Real batches, of this sequence table.")]
Epoch = Annotated[bool | None, typer.Option("--epoch", help="Also a whole epoch; needs --table.")]
Exposures = Annotated[list[int] | None, typer.Option(help="Of each user; may be given again.", min=2)]
Mixture = Annotated[Path | None, typer.Option(help="Also the catalogue and the users of a run with a mixture.")]
Items = Annotated[list[int] | None, typer.Option(help="Of a random catalogue; may be given again.", min=1)]
Best = Annotated[int | None, typer.Option("-k", help="How many items to find.", min=1)]


class Bench(NamedTuple):
    """The cases of a module. `options` are by the argument of its cases() that they change, in QUICK or in FULL."""

    help: str
    options: dict[str, Any]  # typer's annotations
    example: str = ""
    module: str = ""  # of the bench's name by default
    has_dtype: bool = False
    has_device: bool = True


BENCHES = {
    "attention": Bench(
        """The attention op, beside its reference implementation, the official padded op and scaled_dot_product_attention.

        Forward, and forward and backward, of 4 heads of 64, where the longest of the histories has 200 or 1024 of 2048
        events; with --full 200, 1024, 4096 or 8192 of 8192. Kinds: "uniform", all as long as the longest; "zipf", few
        are; both also with biases by position and by time, "uniform rab" and "zipf rab"; "targets"; "window".
        """,
        {"kinds": Kinds, "lengths": Lengths, "tokens": Tokens, "heads": Count, "width": Count},
        example='--kind "zipf rab" --length 2048 --tokens 8192 --dtype bfloat16',
        has_dtype=True,
    ),
    "layer": Bench(
        """One HSTU layer in training, beside itself with torch ops alone and beside Transformer layers of its width.

        Also the bytes that each keeps for the backward pass. Width 512, 8 heads, 2048 events in histories of up to 512;
        with --full 8192 in up to 1024.
        """,
        {"length": Longest, "tokens": Tokens, "width": Count, "heads": Count},
        has_dtype=True,
    ),
    "loss": Bench(
        """The sampled and the full softmax, beside their reference implementations, the official way and cross_entropy.

        A batch of ML-1M; with --full also 8,000 rows, 100,000 items and 512 negatives.
        """,
        {},
    ),
    "step": Bench(
        """One whole training step of ml1m:hstu, hstu_large and sasrec, beside plain torch ops and the official, padded way.

        Batches of 32 users like those of ML-1M; with --full 128, as the recipes have.
        """,
        {"names": Recipes, "users": Users, "table": RealTable, "epoch": Epoch},
        example="--full --table tables/ml-1m --epoch",
    ),
    "encoder": Bench(
        """HSTU's encoder with stochastic length, beside a Transformer on padded full histories: the paper's figure 5.

        Training with alpha 1.6 to 2.0, and inference. 2 layers of width 512 and 8 heads; 4 users of up to 1024 events and
        2 of up to 2048; with --full 16 users of up to 1024 events to 2 of up to 8192.
        """,
        {"lengths": Lengths, "tokens": Tokens, "layers": Count},
        example="--length 8192 --tokens 32768 --repeats 3",
        has_dtype=True,
    ),
    "mfalcon": Bench(
        """M-FALCON: candidates scored against one history, beside a pass without a cache, a pass for each, and a DLRM.

        A history that is cached or is computed in the request, by its length, by the number of candidates and by the
        microbatch; also with bfloat16 and int8 weights.
        """,
        {},
    ),
    "generative": Bench(
        """Generative training of a ranker, all exposures of a history in one pass, beside a pass for each exposure.

        Users with 50 or 200 exposures; with --full 200 or 1000.
        """,
        {"exposures": Exposures},
        has_device=False,
    ),
    "mol": Bench(
        """The best items under a mixture of logits: RAILS' searches beside a score for every item, with their recall.

        32 users, a random catalogue of 10,000 items; with --full also of 100,000.
        """,
        {"run": Mixture, "items": Items, "k": Best, "users": Users},
        example="--run runs/ml1m-hstu-large-mol",
        module="mol_topk",
        has_device=False,
    ),
}
ON_ONE_PAGE = "attention", "layer", "loss", "step", "encoder"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


class Command:
    """What typer calls for a bench: its own options, and those that all have."""

    def __init__(self, name: str) -> None:
        bench = BENCHES[name]
        shared: dict[str, Any] = {"full": (Full, False), "dtype": (Dtype, "float32"), "memory": (Memory, 8.0)}
        shared |= {"repeats": (Repeats, 5), "threads": (Threads, None), "device": (Device, "cpu"), "json": (Json, None)}
        left_out = {"dtype": not bench.has_dtype, "device": not bench.has_device}
        options = {own: (annotation, None) for own, annotation in bench.options.items()}
        options |= {own: told for own, told in shared.items() if not left_out.get(own)}
        self.name, self.__name__ = name, name
        self.__annotations__ = {own: annotation for own, (annotation, _) in options.items()}
        self.__signature__ = Signature(
            [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, (a, d) in options.items()]
        )

    def __call__(self, **given: Any) -> None:
        sizes = {own: given.pop(own) for own in BENCHES[self.name].options}
        carry_out(self.name, {own: value for own, value in sizes.items() if value is not None}, **given)


def examples(name: str, *options: str) -> str:
    """The end of a command's help."""
    return "\n\nExamples:\n\n" + "\n\n".join(f"python -m benchmarks {name} {given}".rstrip() for given in options)


for _name, _bench in BENCHES.items():
    _usual = f"--full --json benchmarks/results/{_bench.module or _name}.jsonl"
    app.command(_name, help=cleandoc(_bench.help) + examples(_name, _bench.example, _usual))(Command(_name))


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

    Example: python -m benchmarks all --from benchmarks/results
    """
    from benchmarks.page import write_page
    from benchmarks.rows import read

    if source:
        rows = read(source)
    else:
        given: dict[str, Any] = {"full": full, "memory": memory, "repeats": repeats, "threads": threads}
        rows = []
        for name in ON_ONE_PAGE:
            own: dict[str, Any] = {"dtype": dtype} if BENCHES[name].has_dtype else {}
            rows += carry_out(name, {}, **given, device=device, json=json, **own)
    write_page(rows, output)
    typer.echo(f"{output} is written; it opens in any browser, without a network.")


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

    Needs pandas. Each run is a process of its own, and its start and imports count.

    Example: python -m benchmarks etl --source ml-1m.zip --ratings 0 --events 0
    """
    from rich.console import Console

    from benchmarks import etl

    if source and not source.exists():
        raise InputError(f"There is no file or folder {source}. Give a MovieLens-1M archive: --source ml-1m.zip.")
    with tempfile.TemporaryDirectory(prefix="louder-bench-") as folder, Console(stderr=True).status("measuring"):
        rows = kept([row for own in etl.rows(source, ratings, events, Path(folder), repeats) for row in own], json)
    head = ["case", "implementation", "median s", "min s", "max s", "CPU s", "peak GiB"]
    lines = []
    for row in rows:
        numbers = *(row[key] for key in ("median_s", "min_s", "max_s", "cpu_s")), row["peak_bytes"] / (1 << 30)
        lines.append([row["case"], row["implementation"], *(f"{number:.2f}" for number in numbers)])
    Console().print(table(head, lines))
    seconds = {(row["case"], row["implementation"]): row["median_s"] for row in rows}
    for case in (case for case, implementation in seconds if implementation == "pandas"):
        ratio = seconds[case, "pandas"] / seconds[case, "louder"]
        typer.echo(f"{case}: louder is {ratio:.1f} times as fast as pandas, process start and imports counted.")


@app.command()
def index(
    items: Annotated[list[int] | None, typer.Option("--items", help="May be given again.", min=100)] = None,
    kind: Annotated[list[str] | None, typer.Option(help="ivf, hnsw; both by default.")] = None,
    full: Full = False,
    repeats: Annotated[int, typer.Option(help="Searches of each, one after the other in turn.", min=1)] = 200,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """The exact index beside IVF and HNSW: time to build, the share of the best 100 that is found, time to search.

    10,000 and 100,000 clustered items of width 64, with 1 query and with 64 at once; with --full 1,000,000 too, where
    HNSW takes several minutes to build. Needs faiss.

    Example: python -m benchmarks index --items 1000000 --kind ivf
    """
    import torch
    from rich.console import Console

    from benchmarks import index
    from louder.inference.index import faiss

    if threads:
        torch.set_num_threads(threads)
    faiss().omp_set_num_threads(torch.get_num_threads())
    given = {"sizes": items, "kinds": kind}
    sizes = (index.FULL if full else index.QUICK) | {name: value for name, value in given.items() if value}
    lines = []
    with Console(stderr=True).status("measuring: index"):
        for own in index.rows(**sizes, repeats=repeats):
            for row in kept([{"bench": "index", **row} for row in own], json):
                times = [f"{1e3 * row[name]:.3f}" for name in ("median_s", "p99_s")]
                found, size = f"{row['recall@100']:.4f}", f"{row['index_bytes'] / (1 << 20):.1f}"
                lines.append([row["case"], row["implementation"], f"{row['build_s']:.1f}", found, *times, size])
    Console().print(table(["case", "index", "build s", "recall@100", "median ms", "p99 ms", "MiB"], lines))


@app.command("gpu", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def gpu(context: typer.Context) -> int:
    """A GPU in ten minutes: every Triton kernel against its reference implementation, then speed."""
    from benchmarks.gpu import main

    raise typer.Exit(main(context.args))


def main() -> None:
    """Run a command. A mistake of the user's is one sentence on standard error, with exit code 2."""
    try:
        app(prog_name="python -m benchmarks")
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)


def carry_out(
    name: str,
    own: Row,
    *,
    full: bool,
    memory: float,
    repeats: int,
    threads: int | None,
    json: Path | None,
    device: str = "cpu",
    dtype: str | None = None,
) -> list[Row]:
    """Measure every case of a bench, with `own` sizes in place of its usual ones, show it, and append its rows to the file."""
    import torch
    from rich.console import Console

    from benchmarks.measure import measure
    from louder.training.loop import choose_device

    module: ModuleType = import_module(f"benchmarks.{BENCHES[name].module or name}")
    sizes = (module.FULL if full else module.QUICK) | own
    if dtype is not None:
        if dtype not in ("float32", "bfloat16"):
            raise InputError(f"--dtype is {dtype!r}, but it must be float32 or bfloat16.")
        sizes["dtype"] = getattr(torch, dtype)
    where = choose_device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no GPU that torch can use. Measure on the processor: --device cpu.")
    if threads:
        torch.set_num_threads(threads)
    rows = []
    with Console(stderr=True).status(f"measuring: {name}") as status:
        for case in module.cases(**sizes, device=where, memory=memory):
            status.update(f"measuring: {case.name}")
            bench = BENCHES[name].module or name
            measured = kept([{"bench": bench, **row} for row in measure(case, repeats, where)], json)
            Console().print(shown(measured))
            rows += measured
    return rows


def kept(rows: Sequence[Row], json: Path | None) -> list[Row]:
    """The rows with what made them, appended to the file."""
    facts = provenance()
    whole = [{**row, **facts} for row in rows]
    for row in whole if json else ():
        append_row(json or Path(), row)
    return whole


def shown(rows: list[Row]) -> "Table":
    """The rows of one case as a table of the screen."""
    head, *lines = columns(rows)
    made = table(head, lines)
    made.title, made.caption = f"{rows[0]['case']} (× is beside {rows[0]['reference']})", "\n".join(left_out(rows))
    return made


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for at, name in enumerate(head):
        made.add_column(name, justify="right" if at else "left", no_wrap=True)
    for line in lines:
        made.add_row(*line)
    return made
