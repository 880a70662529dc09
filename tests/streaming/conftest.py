import pytest

from tests.streaming import records_of


@pytest.fixture(autouse=True)
def _close_readers():
    yield
    while records_of.OPENED:
        records_of.OPENED.pop().close()
