"""What a person sees of a run: a progress bar, and a line for every epoch. On standard error."""

import sys

from louder.results import Row
from louder.training.config import Config


class Screen:
    """Used as `with Screen(config) as screen`. Where nobody watches, only the lines are printed."""

    def __init__(self, config: Config, *, quiet: bool = False) -> None:
        # not at the top: training has to load where only torch and numpy are installed
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.config, self.quiet = config, quiet
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("starting", total=None, note="")

    def __enter__(self) -> "Screen":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start_epoch(self, epoch: int, steps: int, done: int) -> None:
        name = f"epoch {epoch + 1}/{self.config.training.epochs}"
        self.bar.reset(self.task, description=name, total=steps, completed=done, note="")

    def step(self, loss: float, events_per_s: float) -> None:
        self.bar.update(self.task, advance=1, note=f"loss {loss:.4f} · {events_per_s:,.0f} events/s")

    def status(self, text: str) -> None:
        self.bar.update(self.task, note=text)

    def end_epoch(self, epoch: int, row: Row, headline: str, best_epoch: int) -> None:
        if self.quiet:
            return
        text = f"epoch {epoch + 1:>3}  loss {row['loss']:.4f}  {row['events_per_s']:>9,} events/s"
        if "part" in row:
            mark = "  best so far" if best_epoch == epoch else ""
            text += f"  {row['part']}: {headline}{mark}"
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
