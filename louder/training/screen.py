"""What a person sees of a run: a progress bar, and a line for every epoch."""

from contextlib import AbstractContextManager

from louder.progress import ProgressBar, progress_bar
from louder.results import Row
from louder.training.config import Config


class Screen:
    """Used as `with Screen(config) as screen`. Where nobody watches, only the lines are printed, on standard error."""

    def __init__(self, config: Config, *, quiet: bool = False) -> None:
        self.config = config
        self.opened: AbstractContextManager[ProgressBar] = progress_bar(quiet=quiet)

    def __enter__(self) -> "Screen":
        self.bar = self.opened.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.__exit__(None, None, None)

    def start_epoch(self, epoch: int, steps: int, done: int) -> None:
        self.bar.start(f"epoch {epoch + 1}/{self.config.training.epochs}", steps, done)

    def step(self, loss: float, events_per_s: float) -> None:
        self.bar.advance(note=f"loss {loss:.4f} · {events_per_s:,.0f} events/s")

    def status(self, text: str) -> None:
        self.bar.note(text)

    def end_epoch(self, epoch: int, row: Row, headline: str, best_epoch: int) -> None:
        text = f"epoch {epoch + 1:>3}  loss {row['loss']:.4f}  {row['events_per_s']:>9,} events/s"
        if "part" in row:
            mark = "  best so far" if best_epoch == epoch else ""
            text += f"  {row['part']}: {headline}{mark}"
        self.bar.line(text)
