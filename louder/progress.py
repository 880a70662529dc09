"""How far something is: a bar in a terminal or a notebook, and lines that stay. Where nobody watches, the lines alone.

On standard error, or below the cell of a notebook. Imports what draws when it draws: training loads without.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Protocol

REDRAWN_S = 0.2  # between two pictures in a notebook, each of which is a message to the browser
PATIENCE_S = 0.5  # what is done sooner needs no bar


class ProgressBar(Protocol):
    def start(self, doing: str, total: int | None = None, done: int = 0) -> None:
        """What is done now, in how many steps; None: that is not known."""

    def advance(self, count: int = 1, note: str | None = None) -> None: ...

    def note(self, text: str) -> None:
        """Beside the bar."""

    def line(self, text: str) -> None:
        """Stays when the bar goes."""

    def close(self) -> None: ...


class DisplayHandle(Protocol):
    def update(self, content: dict[str, str], *, raw: bool) -> None: ...


class Lines:
    """Where nobody watches."""

    def start(self, doing: str, total: int | None = None, done: int = 0) -> None: ...

    def advance(self, count: int = 1, note: str | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None: ...


class Silence(Lines):
    def line(self, text: str) -> None: ...


class TerminalBar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}")
        others = TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, *others, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("starting", total=None, count="", note="")
        self.bar.start()

    def start(self, doing: str, total: int | None = None, done: int = 0) -> None:
        self.bar.reset(self.task, description=doing, total=total, completed=done, note="", count="")

    def advance(self, count: int = 1, note: str | None = None) -> None:
        task = self.bar.tasks[0]
        beside = task.fields["note"] if note is None else note
        self.bar.update(self.task, advance=count, count=counted(int(task.completed) + count, task.total), note=beside)

    def note(self, text: str) -> None:
        self.bar.update(self.task, note=text)

    def line(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.bar.stop()


class NotebookBar:
    """One output of a cell, which is drawn anew as things go on; none where all is done at once, and nothing is left."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.doing, self.beside, self.done = "", "", 0
        self.total: int | None = None
        self.opened = self.began = self.drawn = time.monotonic()
        self.output: DisplayHandle | None = None

    def start(self, doing: str, total: int | None = None, done: int = 0) -> None:
        self.doing, self.total, self.done, self.beside, self.began = doing, total, done, "", time.monotonic()
        self.draw(now=True)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self.done += count
        self.beside = self.beside if note is None else note
        self.draw()

    def note(self, text: str) -> None:
        self.beside = text
        self.draw(now=True)

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.draw(now=True)

    def close(self) -> None:
        self.doing = ""
        if self.output is not None or self.lines:
            self.draw(now=True)

    def draw(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self.output is None and not self.lines and moment - self.opened < PATIENCE_S:
            return
        if now or moment - self.drawn >= REDRAWN_S:
            self.drawn = moment
            self.show({"text/html": self.html(), "text/plain": "\n".join(self.lines)})

    def show(self, content: dict[str, str]) -> None:
        if self.output is not None:
            self.output.update(content, raw=True)
            return
        from IPython.display import display

        self.output = display(content, raw=True, display_id=True)

    def html(self) -> str:
        lines = f"<pre>{escape(chr(10).join(self.lines))}</pre>" if self.lines else ""
        if not self.doing:
            return lines
        ends = f' value="{self.done}" max="{self.total}"' if self.total else ""
        passed = f"{time.monotonic() - self.began:.0f} s"
        words = [self.doing, f"<progress{ends}></progress>", counted(self.done, self.total), self.beside, passed]
        return lines + "<div>" + " ".join(x if x.startswith("<progress") else escape(x) for x in words if x) + "</div>"


def counted(done: int, total: float | None) -> str:
    return f"{done:,}/{total:,.0f}" if total else f"{done:,}" if done else ""


def in_notebook() -> bool:
    """Whether this runs in a cell of Jupyter, or of what is like it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def progress_bar(*, quiet: bool = False, lines: bool = True) -> Iterator[ProgressBar]:
    """`quiet`: nothing at all. `lines`: whether those that stay are also printed where nobody watches."""
    bar = open_bar(quiet, lines)
    try:
        yield bar
    finally:
        bar.close()


def open_bar(quiet: bool, lines: bool) -> ProgressBar:
    if quiet:
        return Silence()
    if in_notebook():
        return NotebookBar()
    return TerminalBar() if sys.stderr.isatty() else Lines() if lines else Silence()


@contextmanager
def steps(otherwise: Callable[[str], None] = lambda text: None) -> Iterator[Callable[[str], None]]:
    """For work whose steps are told and not counted: yields the function that is told. Where nobody watches, `otherwise`
    is."""
    if not (in_notebook() or sys.stderr.isatty()):
        yield otherwise
        return
    with progress_bar() as bar:
        yield bar.start


@contextmanager
def counting(doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """For work whose end is not far: yields the function that counts. Silent where nobody watches."""
    with progress_bar(lines=False) as bar:
        bar.start(doing, total)
        yield bar.advance
