"""The tour of the command line as a moving picture: commands that are run, and what they say, as SVG.

    python docs/pictures/tour.py docs/images/tour.svg        # runs them in an empty folder, a minute on two cores

A picture of text, which stays sharp, opens without a network and is under 60 kB. Every line is a command's own; how long a
command takes is not shown.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rich.color import ColorType
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 98, 26
TOUR = (
    "louder data synth demo -o log.csv",
    "louder etl log.csv --schema log.yaml -o tables/shop",
    "louder train demo --table tables/shop -o runs/shop",
    "louder recommend runs/shop --user 42 -k 5",
    "louder recommend runs/shop --users all -k 20 -o recs.parquet",
)
CELL, LINE, SIZE, MARGIN, BAR = 8.4, 18, 14, 18, 38  # of a letter, of a line, of the font, around, above: in pixels
TYPING, LINES_EACH, READING, REST = 0.035, 0.07, 2.5, 4.0  # seconds: a letter, a line, an answer, the end
BACKGROUND, PROMPT = "#0d1117", "#7ee787"
DOTS = "#ff5f57", "#febc2e", "#28c840"
TITLE = "louder on the command line: a log, a sequence table, a trained run, recommendations"
THEME = TerminalTheme(
    (13, 17, 23),
    (215, 221, 229),
    [
        (72, 79, 88),
        (255, 123, 114),
        (126, 231, 135),
        (210, 153, 34),
        (121, 192, 255),
        (210, 168, 255),
        (86, 211, 220),
        (177, 186, 196),
    ],
)


# --- what commands say ------------------------------------------------------------------------------------------------


def said(command: str, folder: Path) -> list[Text]:
    """The lines that a terminal shows when the command has ended. Raises CalledProcessError where it fails."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(command, shell=True, cwd=folder, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    found = b""
    while part := read(mine):
        found += part
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, found)
    return [Text.from_ansi(line) for line in screen(found.decode())]


def read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def screen(text: str) -> list[str]:
    """Lines with their colours, after lines were erased and written anew, as bars of progress are."""
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            at = max(0, at - int(up[1] or 1))
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part.endswith("m") or not part.startswith(("\x1b", "\r")):
            lines[at] += part
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


# --- a picture of them ------------------------------------------------------------------------------------------------


@dataclass
class Film:
    """Lines from the top to the bottom, under a window that follows them. What has not come yet is covered.

    covers  of each: its box in cells, and keys (second, share of it that is there, steps from the key before)
    moves   of the window: (second, first line, steps)
    """

    lines: list[Text] = field(default_factory=list)
    covers: list[tuple[tuple[int, int, int, int], list[tuple[float, float, int]]]] = field(default_factory=list)
    moves: list[tuple[float, int, int]] = field(default_factory=lambda: [(0.0, 0, 1)])
    clock: float = 0.0

    def type(self, command: str) -> None:
        """A prompt, and the command letter by letter."""
        row, letters = len(self.lines), len(command)
        prompt = Text.assemble(("$ ", Style(color=PROMPT, bold=True)), (command, Style(color="#ffffff", bold=True)))
        self.show([prompt], 0.01)
        begins = self.clock + 0.6
        self.clock = begins + TYPING * letters
        self.covers.append(((2, row, letters, 1), [(0, 1, 1), (begins, 1, 1), (self.clock, 0, letters)]))
        self.clock += 0.4

    def show(self, lines: list[Text], seconds: float) -> None:
        row, begins, count = len(self.lines), self.clock, len(lines)
        self.lines += lines
        self.clock += seconds
        self.covers.append(((0, row, COLUMNS, count), [(0, 1, 1), (begins, 1, 1), (self.clock, 0, count)]))
        before, first = self.moves[-1][1], max(0, len(self.lines) - ROWS)
        if moved := first - before:
            at = begins + seconds * max(0, 1 - moved / count)  # the last of the lines move the window
            self.moves += [(at, before, 1), (self.clock, first, moved)]

    def svg(self) -> str:
        width, height = round(2 * MARGIN + COLUMNS * CELL), BAR + ROWS * LINE + MARGIN
        styles = [self.keyframes("w", [(s, f"translateY({-LINE * first}px)", n) for s, first, n in self.moves])]
        shapes = []
        for number, ((x, y, columns, rows), keys) in enumerate(self.covers):
            axis = "Y" if x == 0 else "X"
            styles.append(self.keyframes(f"c{number}", [(s, f"scale{axis}({share:g})", n) for s, share, n in keys]))
            # it shrinks towards its end, and is drawn from there: so that is where the origin of its scale is
            place = f"translate({(x + columns) * CELL:.1f} {(y + rows) * LINE})"
            box = f'x="{-columns * CELL - 1:.1f}" y="{-rows * LINE}" width="{columns * CELL + 2:.1f}" height="{rows * LINE}"'
            shapes.append(f'<g transform="{place}"><rect class="c{number}" {box}/></g>')
        rows = [drawn(line, number) for number, line in enumerate(self.lines)]
        dots = [f'<circle cx="{MARGIN + 6 + 20 * n}" cy="20" r="6" fill="{c}"/>' for n, c in enumerate(DOTS)]
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
                f"<title>{escape(TITLE)}</title>",
                f"<style>text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
                f"white-space:pre;fill:{THEME.foreground_color.hex}}} rect[class]{{fill:{BACKGROUND};transform:scale(0)}}",
                *styles,
                "@media(prefers-reduced-motion:reduce){*{animation:none!important}}</style>",
                f'<rect width="{width}" height="{height}" rx="10" fill="{BACKGROUND}"/>',
                *dots,
                f'<svg x="{MARGIN}" y="{BAR}" width="{width - MARGIN}" height="{ROWS * LINE + 4}"><g class="w">',
                *rows,
                *shapes,
                "</g></svg></svg>\n",
            ]
        )

    def keyframes(self, name: str, keys: list[tuple[float, str, int]]) -> str:
        """Jumps from key to key, or goes in steps; then it stays, which is also how it is where nothing moves."""
        whole = self.clock
        *_, (_, last, _) = keys
        parts = []
        for (second, at, _), (_, _, steps) in zip(keys, [*keys[1:], keys[-1]], strict=True):
            parts.append(f"{100 * second / whole:.3f}%{{transform:{at};animation-timing-function:steps({steps})}}")
        return (
            f"@keyframes {name}{{{''.join(parts)}100%{{transform:{last}}}}}"
            f".{name}{{transform:{last};animation:{name} {whole:.2f}s infinite}}"
        )


def drawn(line: Text, row: int) -> str:
    """A line of text. Its length is told, so that columns stand below each other in every font."""
    console, parts = Console(width=COLUMNS, color_system="truecolor"), []
    line = line.copy()
    line.rstrip()
    if not line.plain:
        return ""
    for text, style, _ in line.render(console, end=""):
        parts.append(f"<tspan{attributes(style or Style())}>{escape(text)}</tspan>")
    return f'<text y="{row * LINE + SIZE}" textLength="{line.cell_len * CELL:.1f}">{"".join(parts)}</text>'


def attributes(style: Style) -> str:
    found = ""
    if style.color and style.color.type is not ColorType.DEFAULT:
        found += f' fill="{style.color.get_truecolor(THEME).hex}"'
    if style.bold:
        found += ' font-weight="600"'
    if style.italic:
        found += ' font-style="italic"'
    return found


def film(answers: list[tuple[str, list[Text]]]) -> Film:
    made = Film()
    for command, lines in answers:
        made.type(command)
        made.show([*lines, Text("")], LINES_EACH * len(lines) + 0.01)
        made.clock += READING
    made.clock += REST
    return made


def main(output: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        answers = [(command, said(command, Path(folder))) for command in TOUR]
    Path(output).write_text(film(answers).svg(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
