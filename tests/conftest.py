"""What all tests share: an environment in which signals mean what they say."""

from __future__ import annotations

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Started in the background of a script, this process ignores SIGINT and its children would inherit that; a handler is not
    inherited, so that they start with the default."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
