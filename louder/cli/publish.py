"""louder publish, rollback"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from louder.errors import InputError

if TYPE_CHECKING:
    from louder.publishing import WindowMetrics


def publish(
    run: Annotated[Path | None, typer.Argument(help="The run that is to be served.")] = None,
    link: Annotated[Path | None, typer.Argument(help="The link that louder serve was started with.")] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of versions that louder serve was started with.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where it has nothing in common with the live model, or is worse.")
    ] = False,
    inspect: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Print the versions of a folder, and publish nothing.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Publish a run: put it behind a link, or make it the next version of a folder. A service takes it without a pause.

    A folder of versions keeps what changed from one to the next, and refuses a run whose metrics are worse than the served
    version's. What was refused is taken with --force. Examples:

        louder publish runs/shop-monday live

        louder publish runs/shop-monday --to versions

        louder publish --inspect versions
    """
    if inspect is not None:
        show(inspect, json_output)
    elif run is None:
        raise InputError(
            "What is to be published? Give a run: louder publish RUN LINK, or louder publish RUN --to FOLDER."
        )
    elif to is not None:
        publish_version(run, to, force)
    elif link is None:
        raise InputError(f"Where is it to be served? Give a link or a folder: louder publish {run} --to FOLDER.")
    else:
        publish_link(run, link, force)


def publish_version(run: Path, folder: Path, force: bool) -> None:
    from louder.publishing import publish as publish_state
    from louder.publishing import state_of_run

    state = state_of_run(run)
    done = publish_state(folder, state, measured=tested(run), force=force)
    if done.refused:
        stays = "nothing is served yet" if done.version is None else f"version {done.version.number} stays"
        raise InputError(
            f"{run} was not published, so {stays}: {'; '.join(done.refused)}. If that is meant: louder publish {run} --to "
            f"{folder} --force."
        )
    assert done.version is not None
    kind = "the whole model" if done.version.kind == "base" else "what changed"
    print(f"{folder} is at version {done.version.number}: {kind}, {done.version.bytes / 1e6:,.2f} MB.")


def tested(run: Path) -> "WindowMetrics | None":
    """What the run was measured to be on its test part, if it is finished; the served version's are beside it in the gate."""
    from louder.cli.shelf import read
    from louder.publishing import WindowMetrics

    found = read(run / "metrics.json")
    ranked, listed = found.get("actions", {}).get(found.get("main"), {}), found.get("metrics") or found.get("next_item")
    metrics = {name: ranked[name] for name in ("ne", "auc") if ranked.get(name) is not None}
    metrics |= {name: listed[name] for name in ("hr@10",) if listed and listed.get(name) is not None}
    events = found.get("impressions") or found.get("targets") or (listed or {}).get("targets") or 0
    return WindowMetrics(events=int(events), metrics=metrics) if metrics else None


def publish_link(run: Path, link: Path, force: bool) -> None:
    from louder import checkpoint
    from louder.serving.publishing import mark, point

    checkpoint.best(run)
    there = link.exists() and link.resolve() == run.resolve()
    if link.exists() and not link.is_symlink() and not (there and force):
        raise InputError(
            f"{link} is there and is no link, so it is left alone. Choose another name: louder publish {run} live."
        )
    mark(link, run if force else None)
    if there:
        print(f"{link} points to {run} already{', which may go live now whatever it is like' if force else ''}.")
        return
    if link.is_symlink():
        point(link.with_name(link.name + ".previous"), link.resolve())
    point(link, run.resolve())
    print(f"{link} points to {run}.")


def show(folder: Path, json_output: bool) -> None:
    from louder.publishing.chain import refusals
    from louder.publishing.publish import as_rows

    rows, refused = as_rows(folder), refusals(folder)
    if json_output:
        print(json.dumps({"versions": rows, "refused": refused}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "version", "after", "kind", "MB", "rows", "came", "left", "published", "window"):
        counts = name in ("version", "after", "MB", "rows", "came", "left")
        table.add_column(name, justify="right" if counts else "left", no_wrap=name != "window")
    for row in rows:
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    for one in refused[-10:]:
        after = "the first version" if one["number"] is None else f"version {one['number']}"
        what = f"{after} was left for {one['served']}" if "served" in one else f"what was to follow {after} was refused"
        console.print(f"{moment(one['at'])}  {what}: {'; '.join(one['why'])}", highlight=False, markup=False)


def cells(row: dict[str, Any]) -> list[str]:
    if "damaged" in row:
        return ["", str(row["version"]), "", "damaged", "", "", "", "", "", row["damaged"]]
    sign = "served" if row["served"] else "" if row["in_chain"] else "aside"
    changed = sum(count for count, _ in row["rows"].values())
    window = row["window"]
    metrics = " ".join(f"{name} {value:.4f}" for name, value in window["metrics"].items()) if window else ""
    came, left = (str(row[name].get("item", 0)) for name in ("entered", "left"))
    size = f"{row['bytes'] / 1e6:.2f}"
    after = "" if row["parent"] is None else str(row["parent"])
    return [sign, str(row["version"]), after, row["kind"], size, f"{changed:,}", came, left, moment(row["at"]), metrics]


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def rollback(
    link: Annotated[
        Path, typer.Argument(help="The link or the folder of versions that louder serve was started with.")
    ],
    version: Annotated[
        int | None, typer.Argument(help="Of a folder: its number.", show_default="the one before")
    ] = None,
) -> None:
    """Put the run that was behind a link before back behind it; a second rollback undoes the first. Or serve an earlier
    version of a folder, or any other that it keeps.

    Examples:

        louder rollback live

        louder rollback versions

        louder rollback versions 17
    """
    from louder.publishing.chain import is_chain
    from louder.serving.publishing import mark, point

    if is_chain(link):
        from louder.publishing import roll_back

        print(f"{link} is at version {roll_back(link, version).number}.")
        return
    if version is not None:
        raise InputError(
            f"{link} is no folder of versions, so it has no numbers. Go back by one: louder rollback {link}."
        )
    before = link.with_name(link.name + ".previous")
    if not link.is_symlink() or not before.is_symlink():
        raise InputError(f"Nothing was behind {link} before. Publish a run: louder publish RUN {link}.")
    now, back = link.resolve(), before.resolve()
    mark(link, back)  # who goes back has seen enough: it need not be like the live model
    point(link, back)
    point(before, now)
    print(f"{link} points to {back.name}.")
