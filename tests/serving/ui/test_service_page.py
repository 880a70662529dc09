"""The page in a real browser, against a service that holds every request to the messages."""

import re
import time
import uuid

import pytest
from playwright.sync_api import expect

from louder.serving import messages as m
from tests.serving.ui.fake import BIG, UI, Fake, running, service

USER = 7


@pytest.fixture(scope="module")
def served():
    fake = Fake()
    with running(service(fake)) as address:
        yield fake, address


@pytest.fixture
def fake(served):
    served[0].__init__()  # nothing that an earlier test did is left
    return served[0]


@pytest.fixture
def address(fake, served):
    return served[1]


def opened(page, address, user=USER, view="list"):
    """The page of a user; of the list there are 10 cards, of the rows a strip of 10 tiles."""
    page.goto(f"{address}#user={user}&view={view}")
    expect(page.locator(".card") if view == "list" else strip(page, "Top 10")).to_have_count(10)
    return page


def strip(page, title):
    return page.locator(".strip", has=page.get_by_role("heading", name=title, exact=True)).locator(".tile:has(.open)")


def comes(page, what):
    """Waits for what the page asks the service: it shows a click before the answer to it is there."""
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end
        page.wait_for_timeout(5)


def titles(page):
    return page.locator(".card h3").all_text_contents()


def card(page, title):
    return page.locator(".card", has=page.get_by_role("heading", name=title, exact=True))


def test_a_stranger_sees_users_with_a_line_and_what_is_popular(page, address, fake):
    page.goto(address)
    expect(page.locator(".person[href]")).to_have_count(6)
    first = page.locator(".person").first
    latest = fake.titles[fake.histories[1][-1].item]
    for text in "User 1", f"{len(fake.histories[1])} events", *fake.line(1).favourites, f"Lately: {latest}":
        expect(first).to_contain_text(text)
    expect(strip(page, "What everybody begins with")).to_have_count(24)
    comes(page, lambda: fake.asked[-1].history == [] and fake.asked[-1].user is None)
    first.click()
    expect(page.locator("#who")).to_contain_text("User 1")
    expect(strip(page, "Top 10")).to_have_count(10)


def test_a_user_is_picked_by_keyboard_alone(page, address):
    page.goto(address)
    expect(page.locator("#figures div")).to_have_count(5)
    for _ in range(3):  # the link that skips ahead, the name of the page, the field
        page.keyboard.press("Tab")
    page.keyboard.type("12")
    expect(page.get_by_role("option")).to_have_text([f"User {user}" for user in (12, *range(120, 125))])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", selected=True)).to_have_text("User 120")
    page.keyboard.press("Enter")
    expect(strip(page, "Top 10")).to_have_count(10)
    assert page.url == f"{address}#user=120"
    assert page.title() == "User 120 · Louder"


def test_users_are_found_by_the_title_of_what_they_did(page, address, fake):
    page.goto(address)
    page.get_by_role("combobox").fill("alien")
    expect(page.get_by_role("option")).to_have_text(
        ["Alien (1979) Horror, Sci-Fi, 1970s", "Aliens (1986) Action, Sci-Fi, 1980s"]
    )
    page.keyboard.press("Enter")  # no user has this id, so the first title is meant
    expect(page.get_by_role("heading", name="Alien (1979)")).to_be_visible()
    knows = [user for user, events in fake.histories.items() if 0 in {event.item for event in events}]
    expect(page.locator(".person .name-line b")).to_have_text([f"User {user}" for user in knows[:6]])
    expect(strip(page, "More like this")).to_have_count(20)
    page.locator(".person").first.click()
    expect(page.locator("#who")).to_contain_text(f"User {knows[0]}")


def test_escape_closes_the_suggestions_and_an_unknown_id_opens_somebody_new(page, address):
    page.goto(address)
    field = page.get_by_role("combobox")
    field.fill("nobody")
    expect(page.locator("#found .none")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("#popular")).to_contain_text("the list starts from what is popular")
    expect(page.locator("#who")).to_contain_text("No events yet")


def test_the_address_holds_the_user_and_back_returns_to_the_one_before(page, address):
    opened(page, address, 7)
    page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#who")).to_contain_text("User 1")
    page.go_back()
    expect(page.locator("#who")).to_contain_text("User 7")


def test_an_id_of_64_bits_stays_what_it_is(page, address, fake):
    opened(page, address, BIG)
    comes(page, lambda: fake.asked[-1].user == BIG)


def test_a_history_shows_the_newest_first_and_more_on_demand(page, address, fake):
    fake.histories[USER] = [m.EventIn(item=n % 20, time=1_000 * n) for n in range(60)]
    opened(page, address)
    rows = page.locator("#timeline li")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text(fake.titles[59 % 20])
    page.get_by_role("button", name="Show more of 60 events").click()
    expect(rows).to_have_count(60)


@pytest.mark.parametrize("time", [2**53, 0])
def test_a_time_that_no_calendar_has_is_shown_as_such(page, address, fake, time):
    fake.histories[USER].append(m.EventIn.model_construct(item=3, time=time))  # as an older store may hold it
    opened(page, address)
    first = page.locator("#timeline h3").first
    expect(first).to_have_text("at no possible time" if time else "Thu, Jan 1, 1970")
    expect(page.locator("#timeline li").first).to_contain_text(fake.titles[3])
    opened(page, address, 8)
    expect(page.locator("#timeline li")).to_have_count(len(fake.histories[8]))


def test_a_history_of_somebody_else_is_never_shown(page, address, fake):
    opened(page, address, 8)
    fake.mistaken["7"] = "9"
    page.goto(f"{address}#user=7&view=list")
    expect(page.get_by_role("alert")).to_contain_text("The service answered for user 9, not for 7.")
    expect(page.locator("#work")).to_be_hidden()
    assert page.locator("#timeline li, .card").count() == 0


def test_what_if_is_tried_and_not_stored(page, address, fake):
    opened(page, address)
    before = titles(page)
    page.get_by_role("button", name=f"like: {before[2]}").click()
    expect(page.locator("#sandbox")).to_contain_text("of the first 10.")
    expect(page.locator("#status")).to_contain_text("of the first 10.")  # for those who cannot see it
    assert fake.posted == [] and before[2] not in titles(page)
    asked = fake.asked[-1]
    assert asked.user == USER and [(e.item, list(e.actions)) for e in asked.what_if] == [
        (fake.titles.index(before[2]), ["like"])
    ]
    expect(page.locator("#timeline li").first).to_contain_text(before[2])
    expect(page.locator("#timeline .tried")).to_have_count(1)
    expect(page.locator(".moved.new")).not_to_have_count(0)
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#sandbox")).to_be_hidden()
    expect(page.locator(".card h3")).to_have_text(before)
    expect(page.locator("#timeline .tried")).to_have_count(0)
    comes(page, lambda: fake.asked[-1].what_if == [])
    assert fake.posted == []


def test_what_was_tried_is_saved_when_asked_and_once(page, address, fake):
    opened(page, address)
    events = page.locator("#timeline li").count()
    before = titles(page)
    for title in before[:3]:
        page.get_by_role("button", name=f"like: {title}").click()
    page.keyboard.press("Control+z")
    expect(page.locator("#timeline .tried")).to_have_count(2)
    fake.fail["events"] = [503]
    page.get_by_role("button", name="Save to the history").click()
    expect(page.get_by_role("alert")).to_contain_text("The service is busy or still starting; try again in 2 s.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#sandbox")).to_contain_text("Saved 2 events into the history.")
    assert [(event.user, fake.titles[event.item], list(event.actions)) for event in fake.posted] == [
        (USER, title, ["like"]) for title in before[:2]
    ]
    assert all(str(uuid.UUID(event.id)) == event.id for event in fake.posted)
    expect(page.locator("#timeline .tried")).to_have_count(0)
    expect(page.locator("#timeline li")).to_have_count(events + 2)
    comes(page, lambda: fake.asked[-1].what_if == [])
    page.locator("#sandbox").get_by_role("button", name="Undo").click()
    expect(page.locator("#timeline .tried")).to_have_count(2)
    expect(page.locator("#timeline li")).to_have_count(events + 2)
    assert fake.deleted == [event.id for event in fake.posted] and len(fake.histories[USER]) == events
    page.get_by_role("button", name="Save to the history").click()
    expect(page.locator("#sandbox")).to_contain_text("Saved 2 events into the history.")
    assert len({event.id for event in fake.posted}) == 4  # a deleted id stays deleted


def test_what_was_tried_on_a_user_is_there_when_one_comes_back(page, address, fake):
    opened(page, address)
    page.get_by_role("button", name=f"like: {titles(page)[0]}").click()
    expect(page.locator("#timeline .tried")).to_have_count(1)
    page.goto(f"{address}#user=8&view=list")
    expect(page.locator("#who")).to_contain_text("User 8")
    expect(page.locator("#sandbox")).to_be_hidden()
    comes(page, lambda: fake.asked[-1].user == 8 and fake.asked[-1].what_if == [])
    page.goto(f"{address}#user={USER}&view=list")
    expect(page.locator("#timeline .tried")).to_have_count(1)


def test_somebody_new_starts_from_what_is_popular_and_stores_nothing(page, address, fake):
    page.goto(f"{address}#new&view=list")
    expect(page.locator("#popular")).to_contain_text("starts from what is popular")
    page.get_by_role("button", name=f"finish: {titles(page)[0]}").click()
    expect(page.locator("#timeline .tried")).to_have_count(1)
    expect(page.locator("#popular")).to_be_hidden()
    comes(page, lambda: fake.asked[-1].user is None and len(fake.asked[-1].history) == 1)
    expect(page.locator("#sandbox")).to_contain_text("Nothing of this is stored.")
    expect(page.get_by_role("button", name="Save to the history")).to_have_count(0)


def test_somebody_new_may_begin_with_an_item(page, address, fake):
    page.goto(f"{address}#item=0")
    page.get_by_text("Start as someone new with this").click()
    expect(page.locator("#timeline .tried")).to_contain_text("Alien (1979)")
    comes(page, lambda: [event.item for event in fake.asked[-1].history] == [0])


def test_only_seen_is_an_event_without_an_action_and_focus_stays_in_the_list(page, address, fake):
    opened(page, address)
    first = titles(page)[0]
    page.get_by_role("button", name=f"only seen: {first}").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#sandbox")).to_contain_text(first)
    comes(page, lambda: [event.actions for event in fake.asked[-1].what_if] == [[]])
    expect(page.locator(".card:focus")).to_have_count(1)


def test_rows_are_the_best_what_past_events_call_for_and_genres(page, address, fake):
    fake.histories[USER][-1] = m.EventIn(item=0, time=1_750_000_000, actions=["like"])
    opened(page, address, view="rows")
    heads = page.locator(".strip h3")
    expect(heads.nth(0)).to_have_text("Top 10")
    expect(heads.nth(1)).to_have_text("Because of “Alien (1979)”")
    comes(page, lambda: fake.asked[-1].k in (100, 12))
    genres = heads.all_text_contents()[3:]
    assert len(genres) > 1
    for genre in genres:
        kinds = strip(page, genre).locator(".kind").all_text_contents()
        assert len(kinds) >= 4 and all(genre in kind for kind in kinds)
    shown = page.locator(".strip:not([data-cause]) .tile").evaluate_all("all => all.map(one => one.dataset.item)")
    assert len(shown) == len(set(shown))
    expect(page.locator(".strip[data-cause] .blank")).to_have_count(0)
    best, alike = (
        set(page.locator(f"{of} .tile").evaluate_all("all => all.map(one => one.dataset.item)"))
        for of in (".strip:first-child", ".strip[data-cause]")
    )
    assert alike and not best & alike


def test_a_tile_is_walked_to_opened_and_closed_by_keyboard(page, address):
    opened(page, address, view="rows")
    tiles = strip(page, "Top 10").locator(".open")
    tiles.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(tiles.nth(2)).to_have_attribute("aria-expanded", "true")
    detail = page.locator(".detail")
    expect(detail.get_by_role("table").get_by_role("row")).to_have_count(6)
    page.keyboard.press("ArrowDown")
    expect(detail.get_by_role("button", name="like: ")).to_be_focused()
    page.keyboard.press("Escape")
    expect(detail).to_have_count(0)
    expect(tiles.nth(2)).to_be_focused()
    page.keyboard.press("Tab")  # a strip is one stop
    expect(page.locator(".strip").nth(1).locator(".open:focus")).to_have_count(1)


def test_the_plus_of_a_tile_tries_the_main_action(page, address, fake):
    opened(page, address, view="rows")
    tile = strip(page, "Top 10").nth(1)
    tile.hover()
    tile.locator(".quick").click()
    expect(page.locator("#timeline .tried .tag")).to_have_text("like")
    expect(page.locator(".strip h3").nth(1)).to_contain_text("Because of")


def test_bars_tell_apart_what_differs_little_and_one_number_stands_once(page, address, fake):
    opened(page, address)
    cards = page.locator(".card")
    widths = [float(cards.nth(n).locator(".bar i").first.evaluate("x => x.style.width").strip("%")) for n in (0, 9)]
    assert widths == [100, 5]
    shown = [item.score for item in fake.answer.items]
    expect(page.locator("#lead")).to_contain_text(f"like {shown[-1]:.1%} to {shown[0]:.1%}".replace("%", " %"))
    assert cards.first.inner_text().count(f"{shown[0]:.1%}".replace("%", " %")) == 1
    expect(cards.first.locator(".meters .name")).to_have_text(["Would like", "Would finish", "Would share"])


def test_likely_next_and_likely_liked_are_two_bars_and_the_score_a_third(page, address, fake):
    fake.next = True
    opened(page, address)
    first = page.locator(".card").first
    expect(first.locator(".meters .name")).to_have_text(
        ["Likely next", "Would like", "Would finish", "Would share", "Score"]
    )
    expect(first.locator(".amount").first).to_have_text(f"{100 * fake.answer.items[0].next:.1f} %")
    page.get_by_role("button", name="Rows").click()
    expect(strip(page, "Top 10").first.locator(".meters .name")).to_have_text(["next", "like"])
    cause = page.locator(".strip[data-cause] .tile:has(.open)").first  # among others, so it compares with no other list
    expect(cause.locator(".meters .name")).to_have_text(["like"])


def test_all_modules_are_asked_for_at_once():
    preloaded = re.findall('modulepreload" href="([a-z]+.js)"', (UI / "index.html").read_text())
    assert sorted(preloaded) == sorted(file.name for file in UI.glob("*.js") if file.name != "app.js")


def test_the_time_of_an_event_is_that_of_the_service(page, address, fake):
    page.clock.install(time=4_000_000_000)  # a visitor's clock that is wrong by decades
    opened(page, address)
    page.get_by_role("button", name=f"like: {titles(page)[0]}").click()
    expect(page.locator("#sandbox")).to_contain_text("of the first 10.")
    comes(page, lambda: abs(fake.asked[-1].what_if[0].time - time.time()) < 60)


def test_why_shows_reasons_and_marks_them_in_the_history(page, address, fake):
    opened(page, address)
    title = titles(page)[1]
    page.get_by_role("button", name=f"Why? {title}").click()
    rows = page.get_by_role("table", name=f"Why {title}").get_by_role("row")
    expect(rows).to_have_count(6)
    comes(page, lambda: fake.asked[-1].explain)
    item = fake.answer.items[0]
    reason = next(reason for reason in item.reasons if reason.without < 0)  # it lifts the score
    row = rows.nth(1 + item.reasons.index(reason))
    expect(row.locator("b.lifts")).to_have_text(f"lifts it: +{-reason.without / item.score:.1%}".replace("%", " %"))
    row.get_by_role("button").focus()
    expect(page.locator("#timeline .marked")).to_contain_text(row.get_by_role("button").text_content())


def test_more_like_this(page, address):
    opened(page, address)
    page.get_by_role("button", name=f"More like this {titles(page)[0]}").click()
    expect(page.locator(".alike li")).to_have_count(6)


def test_controls_go_into_the_request(page, address, fake):
    opened(page, address)
    page.get_by_text("Adjust the list").click()
    page.get_by_label("How many").select_option("5")
    page.get_by_label("Variety").fill("0.5")
    page.get_by_label("finish", exact=True).fill("0.25")
    page.get_by_text("Also what they already know").click()
    page.locator(".chip", has_text="Comedy").click()
    expect(page.locator(".card")).to_have_count(5)
    expect(page.locator("#lists")).not_to_have_attribute("aria-busy", "true")
    asked = fake.asked[-1]
    assert (asked.k, asked.diversity, asked.seen, asked.where) == (5, 0.5, True, {"genres": ["Comedy"]})
    assert asked.weights == {"like": 1, "finish": 0.25, "share": 0}
    expect(page.locator(".card").first.locator(".meters .name").last).to_have_text("Score")
    page.get_by_role("button", name="Back to the usual").click()
    expect(page.locator(".card")).to_have_count(10)
    comes(page, lambda: fake.asked[-1].weights == {})


def test_a_short_answer_says_why(page, address, fake):
    seen = len({event.item for event in fake.histories[USER]})
    why = f"Why there are no more: There are {len(fake.titles)} items, of which {seen} were seen."
    opened(page, address)
    expect(page.locator("#short")).to_be_hidden()
    page.get_by_role("button", name="Rows", exact=True).click()  # of a hundred
    expect(page.locator("#short")).to_have_text(why)
    page.get_by_role("button", name="List", exact=True).click()
    expect(page.locator("#short")).to_be_hidden()
    page.get_by_text("Adjust the list").click()
    page.get_by_label("How many").select_option("50")
    expect(page.locator("#short")).to_have_text(why)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("list", name="Previous model")).to_be_visible()
    expect(page.locator("#short")).to_have_text(why)  # once, since both are short for one reason


def test_seen_items_are_asked_for_where_the_service_shows_them(page, address, fake):
    fake.seen = True
    opened(page, address)
    comes(page, lambda: fake.asked[-1].seen is True)
    page.get_by_text("Adjust the list").click()
    box = page.get_by_label("Also what they already know")
    expect(box).to_be_checked()
    box.uncheck()
    comes(page, lambda: fake.asked[-1].seen is False)


def test_compare_shows_both_models_side_by_side_and_asks_each_why(page, address, fake):
    opened(page, address)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("list", name="Live model").locator("> li")).to_have_count(10)
    previous = page.get_by_role("list", name="Previous model")
    expect(previous.locator("> li")).to_have_count(10)
    comes(page, lambda: {asked.model for asked in fake.asked[-2:]} == {"live", "previous"})
    both = page.locator(".column:first-child .card:not(.lone)").count()
    expect(page.locator("#lists")).to_contain_text(f"{both} of 10 are in both lists.")
    expect(page.locator(".lines path")).to_have_count(both)
    previous.locator("h4 button").first.click()
    expect(previous.get_by_role("table")).to_be_visible()
    comes(page, lambda: fake.asked[-1].explain and fake.asked[-1].model == "previous")
    previous.get_by_role("button", name="share: ").click()
    expect(page.locator("#timeline .tried")).to_have_count(1)
    comes(page, lambda: [len(asked.what_if) for asked in fake.asked[-2:]] == [1, 1])


def test_pictures_are_shown_and_a_tile_where_one_does_not_load(page, address, fake):
    dot = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    fake.images = {n: dot if n % 2 else "data:image/png;base64,00" for n in range(len(fake.titles))}
    opened(page, address)
    for scored in fake.answer.items[:4]:
        poster = page.locator(f".card[data-item='{scored.item}'] .poster")
        expect(poster.locator("img")).to_have_count(scored.item % 2)


def test_nothing_to_compare_with(page, address, fake):
    fake.previous = None
    opened(page, address)
    expect(page.get_by_role("button", name="Compare")).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("model", 503, "The service is busy or still starting; try again in 2 s."),
        ("history", 429, "Too many requests at once; try again in 2 s."),
        ("recommend", 429, "Too many requests at once; try again in 2 s."),
        ("recommend", 503, "The service is busy or still starting; try again in 2 s."),
        ("recommend", 500, "It was asked to fail."),
    ],
)
def test_an_error_is_a_sentence_and_retry_works(page, address, fake, path, status, sentence):
    fake.fail[path] = [status]
    page.goto(f"{address}#user={USER}&view=list")
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card")).to_have_count(10)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_token_is_asked_for_and_kept_for_the_session_only(page, address, fake):
    fake.token = "s3cret"
    page.goto(f"{address}#user={USER}&view=list")
    for attempt in "wrong", "s3cret":
        expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_role("textbox", name="Token").fill(attempt)
        page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(10)
    assert page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [["s3cret"], 0, ""]


def test_titles_are_text(page, address, fake):
    fake.titles = [f"<script>alert({place})</script><img src=x>" for place in range(len(fake.titles))]
    opened(page, address)
    assert titles(page)[0].startswith("<script>alert(")
    assert page.locator("main script, main img").count() == 0


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("place", ["", "item=3", *(f"user={USER}&view={view}" for view in ("rows", "list", "compare"))])
def test_a_phone_does_not_scroll_sideways(page, address, fake, width, place):
    fake.titles[:20] = ["Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch" * 2] * 20
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{address}#{place}")
    if "user" in place:
        page.get_by_text("Adjust the list").click()
    page.locator(".card h4 button, .card .asks .link, .strip .open").first.click()
    if "user" in place:
        expect(page.locator(".reasons")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_a_phone_recommendations_come_first(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, address)
    first, past = (page.locator(name).bounding_box()["y"] for name in (".card >> nth=0", "#past"))
    assert first < 844 < past


def test_while_one_waits_the_shape_of_the_page_is_there(page, address, fake):
    fake.delay = 0.5
    page.goto(f"{address}#user={USER}")
    expect(page.locator("html[data-busy]")).to_have_count(1)
    expect(page.locator("#lists .poster.blank")).not_to_have_count(0)
    expect(page.locator("#who")).to_contain_text(f"User {USER}")
    expect(strip(page, "Top 10")).to_have_count(10)
    expect(page.locator(".blank")).to_have_count(0)


def test_the_console_stays_empty(page, address):
    said = []
    page.on("console", lambda message: said.append(message.text))
    opened(page, address)
    page.locator(".card").first.get_by_role("button", name="Why?").click()
    page.locator(".card").first.get_by_role("button", name="like: ").click()
    expect(page.locator("#sandbox")).to_contain_text("of the first 10.")
    for view in "Rows", "Compare":
        page.get_by_role("button", name=view, exact=True).click()
        expect(page.locator(".pair" if view == "Compare" else ".strip .open >> nth=0")).to_be_visible()
    assert said == []
