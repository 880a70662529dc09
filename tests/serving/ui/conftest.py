"""A browser, and a page in it that may not complain."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def context():
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(reduced_motion="reduce", timezone_id="UTC")
        context.set_default_timeout(5_000)
        yield context
        browser.close()


@pytest.fixture
def page(context):
    """A page that may say nothing in the console but that the service refused, whatever the test."""
    page = context.new_page()
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    yield page
    page.close()
    assert [text for text in said if not text.startswith("Failed to load resource: the server responded")] == []
