"""louder try"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.cli.etl import options_apart
from louder.errors import InputError, Interrupted

if TYPE_CHECKING:
    from louder.results import Row


def try_log(
    log: Annotated[str, typer.Argument(help="A log of your own, as louder etl reads it, or a sequence table.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the page and the runs.", show_default="try/NAME")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="For all of it; training stops in time.")] = 10.0,
    present: Annotated[
        Path | None,
        typer.Option(
            help="Lists that were shown: a CSV or Parquet file with user, item, position, and maybe timestamp."
        ),
    ] = None,
    schema: Annotated[Path | None, typer.Option(help="A YAML file that says what the columns mean.")] = None,
    size: Annotated[str, typer.Option(help="small, medium or large models.")] = "medium",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of both models: NAME=VALUE. Repeatable.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Is a generative recommender worth it for this log? One command, one honest page.

    Splits the log by time, trains SASRec and HSTU, and asks them, popularity, item-kNN and, with --present, what you show
    now the same question: what did people take next? The page has gains with intervals, where they are, what it costs, some
    people with reasons, what to fix in the log, and what to do. Examples:

        louder try log.csv

        louder try tables/shop --minutes 30 --present lists.csv --open

        louder try logs/ --schema shop.yaml -o try/shop
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see louder demo: read when torch is loaded, which is later
    folder = output or Path("try") / name_of(log)
    require_own(folder)
    try:
        found = run(log, folder, minutes, present, schema, size, tuple(settings or ()))
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted, so there is no page. Begin again: {shlex.join(['louder', *sys.argv[1:]])}"
        ) from None
    if json_output:
        print(json.dumps(found))
    else:
        print_found(found)
        print(f"\nThe page: {folder / 'report.html'}")
    if show:
        typer.launch((folder / "report.html").resolve().as_uri())


def name_of(log: str) -> str:
    return Path(log.partition("::")[0]).resolve().name.partition(".")[0]


def require_own(folder: Path) -> None:
    """Only what a trial made may be replaced; one that was interrupted has its table or a run, and no page yet."""
    ours = {"report.html", "found.json", "table", "sasrec", "hstu"}
    if folder.is_file():
        raise InputError(f"{folder} is a file, but a trial needs a folder: -o FOLDER.")
    if folder.is_dir() and (other := sorted(path.name for path in folder.iterdir() if path.name not in ours)):
        raise InputError(f"{folder} holds {other[0]}, which no trial made. Choose another place: -o FOLDER.")


def run(
    log: str,
    folder: Path,
    minutes: float,
    present: Path | None,
    schema: Path | None,
    size: str,
    settings: tuple[str, ...],
) -> "Row":
    """The table, the trial and its page, all in one folder."""
    import time

    from louder.folders import write_text
    from louder.reports.markup import write_page
    from louder.reports.trial_page import page
    from louder.trial.trial import run_trial

    began = time.perf_counter()
    table = table_of(log, folder, schema)
    found = run_trial(
        table,
        folder,
        name=name_of(log),
        minutes=minutes,
        spent=time.perf_counter() - began,
        size=size,
        settings=settings,
        present=present,
        tell=tell,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_page(page(found), folder / "report.html")
    write_text(folder / "found.json", json.dumps(found, indent=1) + "\n")
    return found


def table_of(log: str, folder: Path, schema: Path | None) -> Path:
    """The table that is named, or one made from the log."""
    if (Path(log) / "manifest.json").is_file():
        return Path(log)
    from louder.etl import LogSpec, build_table, read_spec
    from louder.progress import steps

    table = folder / "table"
    with options_apart(log, "louder try"), steps(tell) as report:
        spec = read_spec(schema) if schema else LogSpec()
        build_table(log, table, spec=spec, name=name_of(log), overwrite=True, report=report)
    return table


def tell(text: str) -> None:
    print(f"{text[0].upper()}{text[1:]}.", file=sys.stderr, flush=True)


def print_found(found: "Row") -> None:
    from louder.cli.show import print_table

    rows = []
    for one in found["systems"]:
        gain = found["gains"].get(one["name"])
        above = "" if gain is None else f"{gain['low']:+.4f} to {gain['high']:+.4f}"
        rows.append(
            [one["name"], f"{one['hr@10']:.4f}", f"{one['low']:.4f}–{one['high']:.4f}", f"{one['ndcg@10']:.4f}", above]
        )
    print_table(["", "HR@10", "95 %", "NDCG@10", f"gain of {found['best']}"], rows)
    print(f"\n{found['verdict']['headline']}")
    for reason in found["verdict"]["reasons"]:
        print(f"  {reason}")
    if serious := [one for one in found["findings"] if one["serious"]]:
        print("\nTo fix in the log:")
        for one in serious:
            print(f"  {one['what']} {one['todo']}".rstrip())
    print(f"\nNext: {found['commands']['serve']}")
