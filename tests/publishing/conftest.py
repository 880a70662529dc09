"""Nothing of a test has to survive a power cut, and to wait for the disk takes most of its time."""

import os

import pytest


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda opened: None)
