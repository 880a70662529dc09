"""A bar in a notebook is one output that changes; where nobody watches, only lines are printed."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from louder import progress


class Notebook:
    """What IPython shows below a cell: the latest content of each output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        shell = SimpleNamespace(kernel=object())
        module, display = ModuleType("IPython"), ModuleType("IPython.display")
        module.get_ipython = lambda: shell  # type: ignore[attr-defined]
        display.display = self.display  # type: ignore[attr-defined]
        monkeypatch.setattr(progress, "PATIENCE_S", 0)
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> SimpleNamespace:
        place = len(self.shown)
        self.shown.append(content["text/html"])
        return SimpleNamespace(update=lambda new, raw: self.shown.__setitem__(place, new["text/html"]))


def test_a_notebook_shows_one_bar_and_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(progress, "REDRAWN_S", 0)
    with progress.progress_bar() as bar:
        bar.start("epoch 1/2", 1000)
        bar.advance(250, note="loss <1>")
        (shown,) = notebook.shown
        assert '<progress value="250" max="1000">' in shown and "250/1,000" in shown and "loss &lt;1&gt;" in shown
        bar.line("epoch 1 is done")
    (shown,) = notebook.shown
    assert shown == "<pre>epoch 1 is done</pre>"  # the bar is gone


def test_a_notebook_is_not_redrawn_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(progress, "REDRAWN_S", 1e9)
    with progress.counting("recommending", 10) as done:
        before = notebook.shown[0]
        done(5)
        assert notebook.shown[0] is before


def test_steps_are_shown_in_a_notebook_and_told_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with progress.steps(told.append) as report:
        report("reading")
    assert told == ["reading"]
    notebook = Notebook(monkeypatch)
    with progress.steps(told.append) as report:
        report("writing")
        assert "writing" in notebook.shown[0]
    assert told == ["reading"] and notebook.shown == [""]


def test_what_is_done_at_once_leaves_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE_S", 1e9)
    with progress.counting("recommending", 10) as done:
        done(10)
    assert notebook.shown == []
    with progress.progress_bar() as bar:
        bar.line("a line")
    assert notebook.shown == ["<pre>a line</pre>"]


def test_where_nobody_watches_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar() as bar:
        bar.start("epoch", 3)
        bar.advance()
        bar.line("one")
    with progress.progress_bar(quiet=True) as bar:
        bar.line("two")
    assert capsys.readouterr().err == "one\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress_bar() as bar:
        bar.start("epoch 1/2", 10, 3)
        bar.advance(2, note="loss 1")
        task = bar.bar.tasks[0]  # type: ignore[attr-defined]
        assert (task.completed, task.total, task.fields["note"], task.fields["count"]) == (5, 10, "loss 1", "5/10")
        bar.line("a line")
    assert "a line" in capsys.readouterr().err
