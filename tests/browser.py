"""A browser for the tests of pages: the system's Chromium, without a window.

Where there is none, these tests are left out and one line at the end of the run says so; with CI=true that is
an error.
"""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.left_out import leave_out

NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTING = "MILLRACE_TEST_BROWSER"


def chromium() -> str | None:
    """The path of the browser: the one that MILLRACE_TEST_BROWSER names, else the system's."""
    named = os.environ.get(SETTING)
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of the test's own."""
    async with async_playwright() as playwright:
        # Its sandbox needs rights that root in a container doesn't have; it loads nothing but our own pages.
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not chromium():
        reason = f"no browser: install the package chromium, or name one in {SETTING}"
        leave_out(config, items, {"browser"}, "a browser", reason)
