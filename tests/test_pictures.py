"""The tour of the command line as a picture: what a terminal shows, and when."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.text import Text

from docs.pictures import tour

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("reading 1\r\x1b[2Kreading 2\r\n\x1b[1A\x1b[2Kdone\r\n", ["done"]),  # a bar of progress, which goes
        ("epoch 1\r\nbar\r\x1b[2K\x1b[1A\x1b[2Kepoch 2\r\nbar", ["epoch 2", "bar"]),
        ("\x1b[?25la\x1b[32mb\x1b[0m\x1b[?25h\r\n\r\n", ["a\x1b[32mb\x1b[0m"]),
    ],
)
def test_a_screen_is_what_is_left_after_lines_were_written_anew(written: str, shown: list[str]) -> None:
    assert tour.screen(written) == shown


def test_a_command_is_run_in_a_terminal_of_its_width(tmp_path: Path) -> None:
    width = f"{sys.executable} -c 'import os; print(os.get_terminal_size().columns)'"
    assert [line.plain for line in tour.said(width, tmp_path)] == [str(tour.COLUMNS)]
    with pytest.raises(Exception, match="exit status 3"):
        tour.said("exit 3", tmp_path)


def test_the_picture_shows_every_line_and_ends_at_the_last() -> None:
    answer = [Text(f"line {n} <&>") for n in range(40)]
    made = tour.film([("louder --help", answer), ("louder demo", [Text("done")])])
    root = ElementTree.fromstring(made.svg())
    texts = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert texts == ["$ louder --help", *(line.plain for line in answer), "$ louder demo", "done"]
    rows = [float(node.attrib["y"]) for node in root.iter(f"{SVG}text")]
    assert rows == sorted(set(rows))
    (style,) = (node.text or "" for node in root.iter(f"{SVG}style"))
    lines = 1 + 40 + 1 + 1 + 1 + 1  # with the empty one after each answer
    at_last = f".w{{transform:translateY(-{tour.LINE * (lines - tour.ROWS)}px)"
    assert at_last in style
    times = [[float(at) for at in re.findall(r"([\d.]+)%", frames)] for frames in re.findall("@keyframes.*", style)]
    assert times and all(own == sorted(own) and own[-1] == 100 for own in times)
