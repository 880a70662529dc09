"""The moving picture of the first screen: the page of a service in use, as Chromium draws it.

    louder serve runs/ml1m-hstu-large --ranker runs/ml1m-rank-hstu
    python docs/pictures/page.py http://localhost:8000 docs/images/page.webp

Somebody of MovieLens-1M: a click on + says “they liked it”, and the list follows; Undo, and a click on another. Nothing
is drawn that the page does not show, but the pointer, and a ring where it clicks.
"""

import io
import sys
from dataclasses import dataclass, field
from shutil import which

from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, expect, sync_playwright

USER, FIRST, SECOND = 1688, "Nightmare Before Christmas", "Gattaca"
SIZE = {"width": 1200, "height": 700}
FINE = 4  # times as fine is the pointer drawn, and then made smaller, so that its edges are smooth
ARROW = (0, 0), (0, 19), (4.6, 14.8), (7.6, 21.6), (10.9, 20.1), (8, 13.5), (14, 13)


@dataclass
class Film:
    page: Page
    frames: list[tuple[Image.Image, int]] = field(default_factory=list)  # and how many milliseconds it stands
    at: tuple[float, float] = (860.0, 560.0)

    def hold(self, milliseconds: int, ring: int = 0) -> None:
        view = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.frames.append((pointed(view, self.at, ring), milliseconds))

    def move(self, target: Locator, steps: int = 12) -> None:
        box = target.bounding_box()
        assert box is not None
        begin, end = self.at, (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for step in range(1, steps + 1):
            share = smooth(step / steps)
            self.at = tuple(a + (b - a) * share for a, b in zip(begin, end, strict=True))  # type: ignore[assignment]
            self.page.mouse.move(*self.at)
            self.hold(40)

    def click(self, target: Locator) -> None:
        for ring in 8, 16, 24:
            self.hold(60, ring)
        target.click()


def pointed(view: Image.Image, at: tuple[float, float], ring: int) -> Image.Image:
    """A view with the pointer in it, and a ring around where it clicks."""
    scale = FINE * view.width / SIZE["width"]
    side = round(60 * scale)
    drawn, middle = Image.new("RGBA", (side, side)), side / 2
    pen = ImageDraw.Draw(drawn)
    if ring:
        box = [middle - ring * scale, middle - ring * scale, middle + ring * scale, middle + ring * scale]
        pen.ellipse(box, outline=(31, 111, 235, 250 - 9 * ring), width=round(3 * scale))
    arrow = [(middle + x * scale, middle + y * scale) for x, y in ARROW]
    pen.polygon(arrow, fill=(17, 17, 17, 255))
    pen.line([*arrow, *arrow[:2]], fill=(255, 255, 255, 255), width=round(1.6 * scale), joint="curve")
    small = drawn.resize((side // FINE, side // FINE), Image.Resampling.LANCZOS)
    corner = [round(x * scale / FINE - small.width / 2) for x in at]
    view.paste(small, (corner[0], corner[1]), small)
    return view


def smooth(share: float) -> float:
    return share * share * (3 - 2 * share)


def record(page: Page, address: str) -> list[tuple[Image.Image, int]]:
    page.goto(f"{address}/#user={USER}")
    page.locator(".strip").nth(2).locator(".tile").first.wait_for()
    settled(page)
    film, news = Film(page), page.locator("#sandbox .news")
    film.hold(1500)
    for title, pause in (FIRST, 3000), (SECOND, 3800):
        if title != FIRST:
            undo = page.locator("#sandbox").get_by_role("button", name="Undo")
            film.move(undo)
            film.click(undo)
            page.locator("#sandbox").wait_for(state="hidden")
            settled(page)
            film.hold(600)
        plus = page.locator(".strip").first.locator(".tile", has_text=title).locator(".quick")
        film.move(plus)
        film.hold(350)
        film.click(plus)
        news.filter(has_text="of the first").wait_for()
        settled(page)
        film.hold(pause)
    return film.frames


def settled(page: Page) -> None:
    """Every strip has come."""
    expect(page.locator("#lists[aria-busy], #lists .blank")).to_have_count(0)
    page.wait_for_load_state("networkidle")


def main(address: str, output: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE, reduced_motion="reduce", timezone_id="UTC", color_scheme="light")
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        frames = record(context.new_page(), address)
        browser.close()
    pictures, durations = zip(*frames, strict=True)
    pictures[0].save(
        output, save_all=True, append_images=pictures[1:], duration=list(durations), loop=0, quality=88, method=4
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
