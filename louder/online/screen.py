"""What a person sees of a stream: how far it is, a line for each window, and the curves in TensorBoard."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from louder.progress import ProgressBar, progress_bar
from louder.results import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class StreamScreen:
    """Used as `with StreamScreen(folder) as screen`."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = folder
        self.opened: AbstractContextManager[ProgressBar] = progress_bar(quiet=quiet)

    def __enter__(self) -> "StreamScreen":
        self.bar = self.opened.__enter__()
        self.bar.start("stream")
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.__exit__(None, None, None)
        if "board" in vars(self) and self.board is not None:
            self.board.close()

    def status(self, text: str) -> None:
        self.bar.note(text)

    def waiting(self, upto: int | None) -> None:
        self.bar.note("waiting for events" + ("" if upto is None else f" after {clock(upto)}"))

    def tell(self, line: str) -> None:
        self.bar.line(line)

    def window(self, row: Row) -> None:
        self.bar.advance()
        self.bar.line(line_of(row))
        if self.board is None:
            return
        for name, value in numbers(row).items():
            self.board.add_scalar(f"stream/{name}", value, row["window"])
        self.board.flush()

    @cached_property
    def board(self) -> "SummaryWriter | None":
        """For TensorBoard, where that is installed."""
        if not find_spec("tensorboard"):
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.folder / "tensorboard")


def clock(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S") if abs(second) < 1 << 36 else str(second)


def line_of(row: Row) -> str:
    """A window in a line."""
    parts = [f"window {row['window']}  to {clock(row['upto'])}  {row['events']:,} events of {row['users']:,} users"]
    if row["negatives"]:
        parts.append(f"{row['negatives']:,} negatives")
    parts.append(headline(row))
    if row["loss"] is not None:
        parts.append(f"loss {row['loss']:.4f}")
    parts.append(f"{row['events_per_s']:,.0f} events/s")
    parts.append(f"lag {row['lag']:,}")
    if row["unknown"]:
        parts.append(f"{row['unknown']:,} of unknown items left out")
    parts.append(str(row.get("published", row["version"])))
    return "  ".join(part for part in parts if part)


def headline(row: Row) -> str:
    """The metric of a window that is looked at first."""
    words = []
    if (found := row.get("next_item", {})).get("events"):
        words.append(f"HR@10 {found['hr@10']:.4f}  log-perplexity {found['log_perplexity']:.3f}")
    for name, metrics in list(row.get("ranking", {}).get("actions", {}).items())[:1]:
        if metrics["ne"] is not None:
            words.append(f"{name}: NE {metrics['ne']:.4f}  AUC {metrics['auc']:.4f}")
    return "  ".join(words)


def numbers(row: Row, path: str = "") -> dict[str, float]:
    """Every number of a row by its name, PART.NAME of those inside."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{path}{name}"] = float(value)
    return found
