"""louder runs, louder tables: what is there."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

FOLDERS = typer.Argument(help="Where to look, subfolders included.")


def runs(
    folder: Annotated[Path, FOLDERS] = Path("runs"),
    json_output: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """The runs of a folder: what each is, on which table, and how good its best epoch is.

    Examples:

        louder runs

        louder runs experiments/monday --json
    """
    found = [run_row(file.parent) for file in files(folder, "config.json") if "model" in read(file)]
    columns = ["run", "config", "seed", "epochs", "test"]
    report(
        folder,
        found,
        columns,
        f"There is no run in {folder}. Make one: louder train RECIPE -o {folder}/NAME.",
        json_output,
    )


def tables(
    folder: Annotated[Path, FOLDERS] = Path("tables"),
    json_output: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """The sequence tables of a folder: what each was made from, and how large it is.

    Examples:

        louder tables

        louder tables tables/2026 --json
    """
    found = [table_row(file) for file in files(folder, "manifest.json") if "tokens" in read(file)]
    columns = ["table", "from", "users", "items", "events", "until"]
    empty = f"There is no sequence table in {folder}. Make one: louder etl SOURCE -o {folder}/NAME."
    report(folder, found, columns, empty, json_output)


def files(folder: Path, name: str) -> Iterator[Path]:
    """Those of a name in the folder, or one or two levels below."""
    yield from sorted([*folder.glob(name), *folder.glob(f"*/{name}"), *folder.glob(f"*/*/{name}")])


def read(file: Path) -> dict[str, Any]:
    """An object; one that is damaged, or something else, is as if it were empty."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def run_row(run: Path) -> dict[str, object]:
    config, metrics = read(run / "config.json"), read(run / "metrics.json")
    return {
        "run": str(run),
        "config": config.get("name", ""),
        "model": config["model"].get("kind", ""),
        "table": config.get("data", {}).get("table", ""),
        "seed": str(config.get("training", {}).get("seed", "")),
        "epochs": metrics.get("epochs_trained", "unfinished"),
        "test": headline(metrics),
    }


def headline(metrics: dict[str, Any]) -> str:
    """The figure by which runs of its kind are compared."""
    if "metrics" in metrics:
        return f"HR@10 {metrics['metrics']['hr@10']:.4f}"
    if "actions" in metrics:
        return f"NE of {metrics['main']} {metrics['actions'][metrics['main']]['ne']:.4f}"
    return ""


def table_row(file: Path) -> dict[str, object]:
    manifest = read(file)
    latest = datetime.fromtimestamp(manifest["last_time"], UTC).date().isoformat() if manifest["has_times"] else ""
    return {
        "table": str(file.parent),
        "from": ", ".join(Path(source["path"]).name for source in manifest["sources"]),
        **{name: manifest[name] for name in ("users", "items", "events")},
        "actions": ", ".join(manifest.get("actions", [])),
        "until": latest,
    }


def report(folder: Path, found: list[dict[str, object]], columns: list[str], empty: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print(empty)
        return
    from louder.cli.show import print_columns

    for row in found:
        row[columns[0]] = str(Path(str(row[columns[0]])).relative_to(folder))
    numbers = [name for name in columns if isinstance(found[0][name], int)]
    rows = [[f"{row[name]:,}" if isinstance(row[name], int) else row[name] for name in columns] for row in found]
    print_columns("", columns, rows, right=numbers)
