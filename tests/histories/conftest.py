"""Both stores, for tests that hold for either."""

import pytest

from louder.histories import open_store
from tests.histories.servers import BINARY, Server

needs_redis = pytest.mark.skipif(BINARY is None, reason="needs redis-server")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"), fsync="everysec")
    yield server
    server.stop()


@pytest.fixture(params=["files", pytest.param("redis", marks=needs_redis)])
def url(request, tmp_path):
    """Where there is no store yet."""
    if request.param == "files":
        return str(tmp_path / "histories")
    server = request.getfixturevalue("server")
    server.empty()
    return server.url


@pytest.fixture
def make(url):
    """make(**how) -> the store, closed before it is opened again"""
    opened = []

    def open_again(**how):
        while opened:
            opened.pop().close()
        opened.append(open_store(url, **how))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()
