"""The board's page as its readers have it, and what goes wrong on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

DESK, PHONE = (1280, 900), (390, 844)
INTERRUPTED = "net::ERR_NETWORK_CHANGED"
"""Said by the browser when a network of this machine comes or goes, as those of containers do; it then drops
what it loads."""


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    interrupted: bool = False

    def heard(self, message: ConsoleMessage) -> None:
        if INTERRUPTED in message.text:
            self.interrupted = True
        elif message.type in ("error", "warning"):
            self.errors.append(message.text)

    def asked(self, url: str) -> None:
        if urlsplit(url).hostname != "127.0.0.1":
            self.elsewhere.append(url)

    def path(self, name: str) -> Locator:
        """The row of a read model or a reaction."""
        return self.page.get_by_role("group", name=f"{name} of the ")

    def box(self, path: str, stage: str) -> Locator:
        """The box of a stage by what a screen reader is told: `path` is the read model or reaction, `stage`
        the kind."""
        return self.page.get_by_role("button", name=f"{path}, {stage} ")


@asynccontextmanager
async def opened(
    browser: Browser, url: str, size: tuple[int, int] = DESK, scheme: str = "light"
) -> AsyncIterator[Watched]:
    """The page, loaded again, when its first board has come."""
    page = await browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        timezone_id="UTC",
    )
    watched = Watched(page)
    page.on("console", watched.heard)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("request", lambda request: watched.asked(request.url))
    await page.goto(url)
    try:
        await expect(page.locator("#link-text")).to_have_text("Live")
    except AssertionError:
        if not watched.interrupted:
            raise
        await page.reload()
        await expect(page.locator("#link-text")).to_have_text("Live")
    yield watched
    await page.close()


def assert_clean(watched: Watched) -> None:
    """Nothing went wrong on the page, and nothing came from anywhere but the board."""
    assert watched.errors == []
    assert watched.elsewhere == []
