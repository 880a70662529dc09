"""The files of the page: what a browser that has them is told, and which pictures they may show."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from louder.serving.page import add_page


def page_of(images=False):
    """The paths of the page, and what asks for one."""
    app = FastAPI()
    paths = add_page(app, images=images)

    def get(path, **headers):
        async def ask():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://louder") as client:
                return await client.get(path, headers=headers)

        return asyncio.run(ask())

    return paths, get


def test_a_browser_that_has_a_file_is_told_that_it_is_the_same():
    paths, get = page_of()
    assert {"/", "/app.js", "/style.css", "/icon.svg"} < paths
    tags = set()
    for path in paths:
        first = get(path)
        assert first.status_code == 200 and first.content and first.headers["cache-control"] == "no-cache"
        tags.add(first.headers["etag"])
        again = get(path, **{"if-none-match": f'W/{first.headers["etag"]}, "x"'})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
        assert get(path, **{"if-none-match": '"x"'}).content == first.content
    assert len(tags) == len(paths)


@pytest.mark.parametrize("images", [False, True])
def test_pictures_of_other_servers_are_allowed_where_items_have_some(images):
    page = page_of(images)[1]("/")
    policy = page.headers["content-security-policy"]
    assert (" img-src 'self' data: https:;" in policy) == images and policy.count("https:") == images
    assert "script-src 'self';" in policy
    assert page.headers["etag"] != page_of(not images)[1]("/").headers["etag"]  # the policy is a part of the file


def test_what_is_no_file_of_the_page_is_not_there():
    get = page_of()[1]
    for path in "/index.html", "/../page.py", "/page.py", "/ui/app.js":
        assert get(path).status_code == 404
