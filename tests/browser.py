"""A browser for the tests of pages: the system's Chromium, without a window.

Where there is none, these tests are left out and one line at the end of the run says so; with CI=true that is an error.
"""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTING = "MILLRACE_TEST_BROWSER"

_left_out: pytest.StashKey[str] = pytest.StashKey()


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
    concerned = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    if not concerned or chromium():
        return
    reason = f"no browser: install the package chromium, or name one in {SETTING}"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise pytest.UsageError(f"CI runs everything, but there is {reason}")
    config.hook.pytest_deselected(items=concerned)
    items[:] = [item for item in items if item not in concerned]
    config.stash[_left_out] = f"{len(concerned)} tests that need a browser were left out ({reason})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _left_out in config.stash:
        terminalreporter.write_line(config.stash[_left_out], yellow=True)
