"""The page in a real browser, against a service that holds every request to the messages."""

import uuid

import pytest
from playwright.sync_api import expect

from tests.serving.ui.fake import BIG, Fake, running, service

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


def opened(page, address, user=USER):
    page.goto(f"{address}#user={user}")
    expect(page.locator(".card")).to_have_count(10)
    return page


def titles(page):
    return page.locator(".card h3").all_text_contents()


def test_a_user_is_picked_by_keyboard_alone(page, address):
    page.goto(address)
    expect(page.locator("#figures div")).to_have_count(5)
    page.keyboard.press("Tab")  # the link that skips ahead
    page.keyboard.press("Tab")
    page.keyboard.type("12")
    expect(page.get_by_role("option")).to_have_text(["12", *map(str, range(120, 127))])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", selected=True)).to_have_text("120")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(10)
    assert page.url == f"{address}#user=120"
    assert page.title() == "User 120 · Louder"


def test_the_address_holds_the_user_and_back_returns_to_the_one_before(page, address):
    opened(page, address, 7)
    page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#past-title")).not_to_have_text("What user 7 did")
    page.go_back()
    expect(page.locator("#past-title")).to_have_text("What user 7 did")


def test_an_id_of_64_bits_stays_what_it_is(page, address, fake):
    opened(page, address, BIG)
    assert fake.asked[-1].user == BIG


def test_a_history_shows_the_newest_first_and_more_on_demand(page, address, fake):
    user = next(user for user, events in fake.histories.items() if len(events) == 26)
    opened(page, address, user)
    rows = page.locator("#timeline li")
    expect(rows).to_have_count(25)
    expect(rows.first).to_contain_text(fake.titles[fake.histories[user][-1].item])
    page.get_by_role("button", name="Show more of 26 events").click()
    expect(rows).to_have_count(26)


def test_a_like_is_posted_and_the_list_follows(page, address, fake):
    opened(page, address)
    before = titles(page)
    page.get_by_role("button", name=f"like: {before[2]}").click()
    expect(page.locator("#news")).to_contain_text("The list followed")
    (event,) = fake.posted
    assert (event.user, fake.titles[event.item], event.actions) == (USER, before[2], ["like"])
    assert str(uuid.UUID(event.id)) == event.id
    assert before[2] not in titles(page)
    expect(page.locator("#timeline li").first).to_contain_text(before[2])
    expect(page.locator("#timeline .pending")).to_have_count(0)
    expect(page.locator(".moved.new")).not_to_have_count(0)


def test_seen_is_an_event_without_an_action_and_focus_stays_in_the_list(page, address, fake):
    opened(page, address)
    first = titles(page)[0]
    page.get_by_role("button", name=f"seen: {first}").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#news")).to_contain_text(first)
    assert fake.posted[0].actions == []
    expect(page.locator(".card:focus")).to_have_count(1)


def test_several_clicks_in_a_row_all_count(page, address, fake):
    opened(page, address)
    before = titles(page)
    for title in before[:3]:
        page.get_by_role("button", name=f"like: {title}").click()
    expect(page.locator("#timeline .pending")).to_have_count(0)
    expect(page.locator(".card")).to_have_count(10)
    assert {fake.titles[event.item] for event in fake.posted} == set(before[:3])
    assert not set(before[:3]) & set(titles(page))


def test_an_event_that_fails_is_taken_back_and_sent_again_once(page, address, fake):
    opened(page, address)
    before = titles(page)
    fake.fail["events"] = [503]
    page.get_by_role("button", name=f"like: {before[0]}").click()
    expect(page.get_by_role("alert")).to_contain_text("The service is busy or still starting; try again in 2 s.")
    assert titles(page) == before
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#news")).to_contain_text("The list followed")
    assert len(fake.posted) == 1


def test_why_shows_reasons_and_marks_them_in_the_history(page, address, fake):
    opened(page, address)
    title = titles(page)[1]
    page.get_by_role("button", name=f"Why? {title}").click()
    rows = page.get_by_role("table", name=f"Why {title}").get_by_role("row")
    expect(rows).to_have_count(6)
    assert fake.asked[-1].explain
    reason = rows.nth(1)
    expect(reason.locator(".without")).to_contain_text("−")
    reason.get_by_role("button").focus()
    expect(page.locator("#timeline .marked")).to_contain_text(reason.get_by_role("button").text_content())


def test_more_like_this(page, address):
    opened(page, address)
    page.get_by_role("button", name=f"More like this {titles(page)[0]}").click()
    expect(page.locator(".alike li")).to_have_count(5)


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
    page.get_by_role("button", name="Back to the usual").click()
    expect(page.locator(".card")).to_have_count(10)
    assert fake.asked[-1].weights == {}


def test_compare_shows_both_models_side_by_side(page, address, fake):
    opened(page, address)
    page.get_by_label("Compare with the previous model").check()
    expect(page.get_by_role("list", name="Live model").locator("li")).to_have_count(10)
    expect(page.get_by_role("list", name="Previous model").locator("li")).to_have_count(10)
    assert {asked.model for asked in fake.asked[-2:]} == {"live", "previous"}
    both = page.locator(".column:first-child .card:not(.lone)").count()
    expect(page.locator("#lists")).to_contain_text(f"{both} of 10 are in both lists.")
    expect(page.locator(".lines path")).to_have_count(both)


def test_nothing_to_compare_with(page, address, fake):
    fake.previous = None
    opened(page, address)
    expect(page.get_by_label("Compare with the previous model")).to_be_hidden()


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
    page.goto(f"{address}#user={USER}")
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card")).to_have_count(10)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_token_is_asked_for_and_kept_for_the_session_only(page, address, fake):
    fake.token = "s3cret"
    page.goto(f"{address}#user={USER}")
    for attempt in "wrong", "s3cret":
        expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_role("textbox", name="Token").fill(attempt)
        page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(10)
    assert page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [["s3cret"], 0, ""]


def test_a_user_that_is_not_there(page, address):
    page.goto(f"{address}#user=nobody%2Fat all")
    expect(page.get_by_role("alert")).to_contain_text("The store has no user 'nobody/at all'.")


def test_titles_are_text(page, address, fake):
    fake.titles = [f"<script>alert({place})</script><img src=x>" for place in range(len(fake.titles))]
    opened(page, address)
    assert titles(page)[0].startswith("<script>alert(")
    assert page.locator("main script, main img").count() == 0


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("compare", [False, True])
def test_a_phone_does_not_scroll_sideways(page, address, fake, width, compare):
    fake.titles[:20] = ["Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch" * 2] * 20
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, address)
    page.get_by_text("Adjust the list").click()
    page.locator(".card").first.get_by_role("button", name="Why?").click()
    expect(page.locator(".reasons")).to_be_visible()
    if compare:
        page.get_by_label("Compare with the previous model").check()
        expect(page.locator(".pair")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_console_stays_empty(page, address):
    said = []
    page.on("console", lambda message: said.append(message.text))
    opened(page, address)
    page.locator(".card").first.get_by_role("button", name="Why?").click()
    page.locator(".card").first.get_by_role("button", name="like: ").click()
    expect(page.locator("#news")).to_contain_text("The list followed")
    page.get_by_label("Compare with the previous model").check()
    expect(page.locator(".pair")).to_be_visible()
    assert said == []
