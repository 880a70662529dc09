"""The page against the service itself, with a model that only retrieves: its answers hold no chances of actions."""

import pytest
from playwright.sync_api import expect

from louder.serving.routes import create_app
from tests.serving.ui.fake import running


@pytest.fixture
def address(service_of):
    with running(create_app(service_of("retrieval"))) as address:
        yield address


def test_a_model_that_only_retrieves_is_shown_asked_why_and_told_of_an_event(
    address, page
):  # the page ends before the service that it asks
    page.goto(f"{address}#user=1&view=list")
    expect(page.locator(".card")).to_have_count(10)
    events = page.locator("#timeline li").count()
    card = page.locator(".card").first
    expect(card.locator(".meters .name")).to_have_text(["Score"])
    card.get_by_role("button", name="Why?").click()
    expect(card.get_by_role("table").get_by_role("row")).to_have_count(4)  # the heads and three events
    name = card.get_by_role("heading").inner_text()
    assert name.startswith("Item ")  # this log has no titles
    card.get_by_role("button", name="like:").click()
    expect(page.locator("#sandbox")).to_contain_text("of the first 10.")
    page.get_by_role("button", name="Save to the history").click()
    expect(page.locator("#sandbox")).to_contain_text("Saved 1 event into the history.")
    expect(page.locator("#timeline .tried")).to_have_count(0)
    expect(page.locator("#timeline li")).to_have_count(events + 1)
    expect(page.locator("#timeline li").first).to_contain_text(name)
    page.locator("#sandbox").get_by_role("button", name="Undo").click()
    expect(page.locator("#timeline .tried")).to_have_count(1)
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#timeline li")).to_have_count(events)


def test_a_stranger_picks_someone_and_sees_rows(address, page):  # the page ends before the service that it asks
    page.goto(address)
    page.locator(".person[href]").first.click()
    expect(page.locator(".strip h3").first).to_have_text("Top 10")
    page.locator(".open").first.click()
    expect(page.locator(".detail").get_by_role("table")).to_be_visible()
