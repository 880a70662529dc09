"""The figure of docs/scaling.md, an SVG that follows the reader's light or dark."""

import math
from collections.abc import Sequence
from html import escape

from experiments.scaling.fit import EXCESS, Cells, Fitted, interval, means

WIDTH, HEIGHT, PANEL, TOP, BOTTOM = 860, 400, 330, 50, 330
LEFTS = 70, 500
COLOURS = "#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626"
STYLE = """<style>
  svg { font: 12px system-ui, sans-serif; --ink: #1f2937; --line: #d1d5db; --paper: #fff; }
  @media (prefers-color-scheme: dark) { svg { --ink: #e5e7eb; --line: #4b5563; --paper: #111827; } }
  text { fill: var(--ink); } .grid { stroke: var(--line); stroke-width: 1; } .paper { fill: var(--paper); }
</style>"""
Pairs = Sequence[tuple[float, float]]


class Panel:
    """Axes with logarithms along both. Values outside the limits are cut off by nobody: limits come from the data."""

    def __init__(self, left: float, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.left, self.x, self.y = left, x, y
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        right, up = (math.log(v / low) / math.log(high / low) for v, (low, high) in ((x, self.x), (y, self.y)))
        return round(self.left + right * PANEL, 1), round(BOTTOM - up * (BOTTOM - TOP), 1)

    def axes(self, title: str, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], x: str) -> None:
        for value, label in xs:
            at, _ = self.at(value, self.y[0])
            self.parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{BOTTOM}"/>')
            self.parts.append(f'<text x="{at}" y="{BOTTOM + 18}" text-anchor="middle">{label}</text>')
        for value, label in ys:
            _, at = self.at(self.x[0], value)
            self.parts.append(f'<line class="grid" x1="{self.left}" x2="{self.left + PANEL}" y1="{at}" y2="{at}"/>')
            self.parts.append(f'<text x="{self.left - 8}" y="{at + 4}" text-anchor="end">{label}</text>')
        middle = self.left + PANEL / 2
        self.parts.append(f'<text x="{self.left}" y="{TOP - 16}" font-weight="600">{escape(title)}</text>')
        self.parts.append(f'<text x="{middle}" y="{BOTTOM + 38}" text-anchor="middle">{escape(x)}</text>')

    def line(self, points: Pairs, colour: str, *, dashed: bool = False) -> None:
        path = " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')

    def band(self, low: Pairs, high: Pairs, colour: str) -> None:
        path = " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in [*low, *reversed(high)]))
        self.parts.append(f'<polygon points="{path}" fill="{colour}" opacity="0.18"/>')

    def dots(self, points: Pairs, colour: str, label: str) -> None:
        for x, y in points:
            at = self.at(x, y)
            self.parts.append(
                f'<circle cx="{at[0]}" cy="{at[1]}" r="4" fill="{colour}"><title>{escape(label)}: {y:.4f}</title></circle>'
            )


def drawing(cells: Cells, fitted: Fitted) -> str:
    """Left: excess NE over compute, a dot for each size, and the law with its band. Right: each compute over sizes."""
    values = means(cells)
    sizes = sorted({size for of in values.values() for size in of})
    every = [value for of in values.values() for value in of.values()]
    x = min(values) / 1.6, max(values) * 1.6
    y = min(every) / 1.25, max(every) * 1.25
    ticks = [(value, number(value)) for value in nice(*y)]
    left = Panel(LEFTS[0], x, y)
    powers = [10.0**power for power in range(math.ceil(math.log10(x[0])), math.floor(math.log10(x[1])) + 1)]
    left.axes("Excess NE over the truth", [(c, exponent(c)) for c in powers], ticks, "training compute, FLOPs")
    across = [x[0] * (x[1] / x[0]) ** (step / 40) for step in range(41)]
    of_draws = [interval([EXCESS.up(draw.at(c)) for draw in fitted.draws]) for c in across]
    lows, highs = ([(c, min(max(pair[end], y[0]), y[1])) for c, pair in zip(across, of_draws)] for end in (0, 1))
    left.band(lows, highs, COLOURS[0])
    law = [(c, fitted.value(c)[0]) for c in across]
    left.line([(c, v) for c, v in law if y[0] <= v <= y[1]], COLOURS[0], dashed=True)
    right = Panel(LEFTS[1], (sizes[0] / 1.15, sizes[-1] * 1.15), y)
    right.axes(
        "The same compute, by size", [(s, str(s)) for s in apart(sizes)], ticks, "size (width is 8 times as much)"
    )
    for n, (compute, of) in enumerate(values.items()):
        colour = COLOURS[n % len(COLOURS)]
        for size, value in of.items():
            left.dots([(compute, value)], colour, f"size {size}")
        right.line(list(of.items()), colour)
        right.dots(list(of.items()), colour, f"{compute:.0e} FLOPs")
        last = right.at(*list(of.items())[-1])
        right.parts.append(f'<text x="{last[0] + 8}" y="{last[1] + 4}" fill="{colour}">{exponent(compute)}</text>')
    body = "\n".join(left.parts + right.parts)
    frame = f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return f"{head}\n<title>Excess NE by training compute and size</title>\n{STYLE}\n{frame}\n{body}\n</svg>\n"


def apart(sizes: Sequence[int]) -> list[int]:
    """Those whose labels do not touch."""
    kept = [sizes[0]]
    for size in sizes:
        if size >= 1.15 * kept[-1]:
            kept.append(size)
    return kept


def nice(low: float, high: float) -> list[float]:
    """Round values between two."""
    steps = [digit * 10.0**power for power in range(-6, 2) for digit in (1, 1.5, 2, 3, 4, 5, 6, 7, 8)]
    return [value for value in steps if low <= value <= high]


def number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").lstrip("0")


def exponent(value: float) -> str:
    """3e11 as 3·10¹¹"""
    power = math.floor(math.log10(value) + 1e-9)
    raised = str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    factor = value / 10**power
    return f"10{raised}" if abs(factor - 1) < 1e-9 else f"{factor:.2g}·10{raised}"
