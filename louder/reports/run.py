"""What a run folder holds, read and checked for the page."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from louder.config import from_dict
from louder.errors import InputError
from louder.results import Row, read_rows
from louder.training.config import Config

Content = TypeVar("Content")
RETRIEVAL = "metrics", "popularity", "by_length"  # what metrics.json has of a run of each kind
RANKING = "actions", "main", "impressions"


@dataclass(frozen=True)
class FinishedRun:
    """result is metrics.json: the test part, and what made the numbers; log is the rows of log.jsonl."""

    folder: Path
    config: Config
    result: Row
    log: list[Row]

    @property
    def ranks(self) -> bool:
        """Whether it says what is done with an item, and not only which comes next."""
        return self.config.ranking is not None

    def rows(self, kind: str) -> list[Row]:
        """Rows of the log: "step", or "epoch"."""
        return [row for row in self.log if row["kind"] == kind]


def read_run(folder: Path | str) -> FinishedRun:
    """Raises InputError if there is no run, if it is not finished, or if a file of it is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no run {folder}. Make one: louder train RECIPE -o {folder}.")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a run: it has no config.json. Make one: louder train RECIPE -o RUN.")
    if not (folder / "metrics.json").is_file():
        raise InputError(
            f"{folder} is not finished: it has no metrics.json yet. "
            f"Finish its training: louder train RECIPE -o {folder} --resume."
        )
    result = read(folder / "metrics.json", lambda file: json.loads(file.read_text(encoding="utf-8")))
    config = read(folder / "config.json", lambda file: json.loads(file.read_text(encoding="utf-8")))
    log = folder / "log.jsonl"
    rows = read(log, read_rows) if log.is_file() else []
    of_kind = RANKING if "actions" in result else RETRIEVAL
    missing = {*of_kind, "protocol", "epoch"} - set(result)
    if missing:
        raise InputError(damaged(folder / "metrics.json", f"it has no {', '.join(sorted(missing))}"))
    return FinishedRun(folder, from_dict(Config, config), result, rows)


def read(file: Path, reader: Callable[[Path], Content]) -> Content:
    try:
        return reader(file)
    except (OSError, ValueError) as error:
        raise InputError(damaged(file, str(error))) from error


def damaged(file: Path, why: str) -> str:
    return (
        f"{file} is damaged ({why}), so there is nothing to report. "
        f"Finish the training again: louder train RECIPE -o {file.parent} --resume."
    )
