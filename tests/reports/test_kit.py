"""Markup, theme and figures that all pages share, as text and in a browser."""

import json
import re
import shutil
from html import unescape

import pytest
from plotly.graph_objects import Figure

from louder.reports import theme
from louder.reports.chart import legend, mode, titled
from louder.reports.markup import (
    Html,
    details,
    document,
    figure,
    figures,
    joined,
    script_json,
    section,
    table,
    tag,
    text,
    write_page,
)

EVIL = "<script>alert('1')</script> & \"co\""


@pytest.mark.parametrize(
    "made",
    [
        text(EVIL),
        tag("p", EVIL),
        tag("p", class_=EVIL),
        joined([EVIL]),
        table([EVIL], [[EVIL]]),
        details([(EVIL, EVIL)]),
        section(EVIL, EVIL, EVIL),
        script_json(json.dumps({EVIL: EVIL})),
        figure(titled(Figure(), EVIL, EVIL, EVIL)),
        document(EVIL, []).partition("<style>")[0],
    ],
)
def test_a_text_is_escaped_wherever_it_is_put(made):
    assert EVIL not in made
    assert "<script>alert" not in made
    assert "alert" in unescape(made)


def test_nothing_in_json_can_end_its_element_or_begin_another():
    inside = (
        script_json(json.dumps({"</script><!--": "&"}))
        .removeprefix('<script type="application/json">')
        .removesuffix("</script>")
    )
    assert not {"<", ">", "&"} & set(inside)
    assert json.loads(inside) == {"</script><!--": "&"}


def test_markup_is_not_escaped_twice():
    assert tag("p", Html("<i>")) == "<p><i></p>"
    assert text(text("<")) == "&lt;"


def test_attributes():
    assert tag("a", "x", class_="b", aria_label="c d", href="") == '<a class="b" aria-label="c d">x</a>'


def test_columns_from_numbers_on_are_right_aligned_and_one_row_is_marked():
    head, *rows = re.findall("<tr.*?</tr>", table(["a", "b", "c"], [[1, 2, 3], [4, 5, 6]], numbers=1, marked=1))
    assert head == '<tr><th>a</th><th class="number">b</th><th class="number">c</th></tr>'
    assert rows[0] == '<tr><td>1</td><td class="number">2</td><td class="number">3</td></tr>'
    assert rows[1].startswith('<tr class="marked"><td>4</td>')
    assert "<thead>" not in table([], [[1]])


def test_a_section_without_a_sentence_has_no_empty_paragraph():
    assert section("T", "why", "x") == '<section><h2>T</h2><p class="muted">why</p>x</section>'
    assert section("T", "", "x") == "<section><h2>T</h2>x</section>"


def spec(made):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', made)[1])


def test_a_figure_is_its_data_with_the_title_as_a_heading():
    drawn = titled(Figure().add_scatter(x=[1, 2], y=[3, 4]), "Loss", "step", "nats")
    made = figure(drawn, height=220)
    layout = spec(made)["layout"]
    assert made.startswith('<figure><h3>Loss</h3><div class="plot" role="img" aria-label="Loss"></div>')
    assert "title" not in layout and "template" not in layout
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("step", "nats")
    assert layout["height"] == 220
    assert [(line["x"], line["y"]) for line in spec(made)["data"]] == [([1, 2], [3, 4])]


def test_room_above_a_figure_is_for_a_legend_or_a_note():
    plain = titled(Figure(), "", "", "")
    assert spec(figure(plain))["layout"]["margin"]["t"] == 10
    assert spec(figure(titled(Figure(), "", "", "").add_annotation(text="x")))["layout"]["margin"]["t"] == 34
    assert spec(figure(legend(plain)))["layout"]["margin"]["t"] == 34


@pytest.mark.parametrize(
    ("columns", "class_", "height"), [(2, "figures", 300), (3, "figures three", 300), (4, "figures four", 220)]
)
def test_figures_stand_in_columns(columns, class_, height):
    made = figures([Figure(), Figure()], columns=columns)
    assert made.startswith(f'<div class="{class_}"><figure>') and made.count("<figure>") == 2
    assert spec(made)["layout"]["height"] == height


def test_a_single_point_is_seen():
    assert mode([1]) == mode(range(40)) == "lines+markers"
    assert mode(range(41)) == "lines"


def contrast(one, other):
    """WCAG 2: 1 to 21"""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def colours(block):
    return dict(re.findall(r"--(\w+): (#\w{6})", block))


def test_texts_and_lines_can_be_read_on_light_and_on_dark():
    light, dark = (colours(block) for block in theme.STYLE.split("prefers-color-scheme: dark")[:2])
    dark = colours(theme.STYLE.split("prefers-color-scheme: dark")[1].partition("* {")[0])
    assert light.keys() == dark.keys()
    for shade in light, dark:
        for ink in "ink", "muted", "accent":
            assert contrast(shade[ink], shade["page"]) >= 4.5
        for ground in "soft", "mark":
            assert contrast(shade["ink"], shade[ground]) >= 4.5
    for name in "BLUE", "ORANGE", "GREEN", "GREY":
        colour = getattr(theme, name)
        assert contrast(colour, light["page"]) >= 3, name
        assert contrast(theme.LIGHTER.get(colour, colour), dark["page"]) >= 3, name


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


DRAWN = legend(titled(Figure(), "A", "x", "y")).add_scatter(x=[1, 2], y=[3, 4], line={"color": theme.BLUE})
STROKES = "[...document.querySelectorAll('.scatterlayer .js-line')].map(line => getComputedStyle(line).stroke)"


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_a_page_is_drawn_light_and_dark_and_again_when_that_changes(browser, tmp_path):
    key = tag("i", data_colour=theme.BLUE, id="key")
    write_page(document("A page", [tag("h1", "A page"), key, figures([DRAWN, DRAWN])]), tmp_path / "page.html")
    page, said = browser.new_page(color_scheme="light", viewport={"width": 390, "height": 700}), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((tmp_path / "page.html").as_uri())

    def seen():
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        key = page.evaluate("getComputedStyle(document.getElementById('key')).backgroundColor")
        return ground, key, page.evaluate(STROKES)

    assert seen() == ("rgb(255, 255, 255)", rgb(theme.BLUE), [rgb(theme.BLUE)] * 2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone has to scroll sideways"
    page.emulate_media(color_scheme="dark")
    lighter = rgb(theme.LIGHTER[theme.BLUE])
    # the page hears of the change a moment later
    page.wait_for_function(f"getComputedStyle(document.getElementById('key')).backgroundColor === '{lighter}'")
    assert seen() == ("rgb(20, 23, 26)", lighter, [lighter] * 2)
    assert said == []
    page.close()
