"""Plug-ins of a test are forgotten after it."""

import pytest

from benchmark.data import available
from benchmark.planning import plugins


@pytest.fixture
def forgotten(monkeypatch):
    """Forgets the plug-in files that a test has loaded, and what they registered."""
    registered = available()
    before = dict(registered)
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    yield
    registered.clear()
    registered.update(before)
