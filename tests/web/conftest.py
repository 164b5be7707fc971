"""Chromium for the tests of the account page."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.account_page import Site, serving
from tests.harness.chromium import Browser, chromium

ORIGIN = "https://app.example.com"
"""An application to which the page may return."""


@pytest.fixture(scope="session")
def chromium_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of a process."""
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(chromium_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with its account page, whose users the tests of a module share."""
    settings: dict[str, Any] = {"cors_origins": (ORIGIN,), "recovery_delay": "72h", "limit_signup": "off"}
    with serving(chromium_browser, tmp_path_factory.mktemp("site"), **settings) as opened:
        yield opened
