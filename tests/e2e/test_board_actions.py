"""Acting on the board's page in a real browser: tried first, confirmed, and said what became of it.

The service's part is made up here; what a real one does with a request is tested in
tests/integration/test_operator_requests.py.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from board.actions import Actions
from board.auth import OperatorAuth
from board.document import ParkedErrors
from board.requests import Action, Listed, Redrive, Requests
from millrace.domain.ids import new_id
from tests.board_pages import DESK, PHONE, assert_clean, opened
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown, serving

TOKEN = "an operator's token,-as-long-as-one-has-to-be".replace(" ", "-")
CONSUMER = "notification-service.requests"
EVIL = "<img src=x onerror=\"document.title='pwned'\">"


class Service(Requests):
    """A service that carries out at once what it is asked, when it is there: one stream flows again, the
    other fails."""

    def __init__(self) -> None:
        super().__init__({"notification": ""})
        self.asked: list[Redrive] = []
        self.is_there = True
        self.made: dict[UUID, Action] = {}

    async def ask(self, wanted: Redrive) -> UUID:
        self.asked.append(wanted)
        made, now = new_id(), datetime.now(UTC)
        about = wanted.model_dump(exclude={"who", "confirmed"})
        self.made[made] = Action(
            id=made,
            action="redrive",
            requested_by=wanted.who,
            requested_at=now,
            taken_at=None,
            takes=0,
            done_at=None,
            outcome=None,
            **about,
        )
        return made

    async def one(self, service: str, request: UUID) -> Action | None:
        if not self.is_there:
            return self.made[request]
        good = {"stream_id": examples.ORDER, "applied": 3, "left": 0, "error": None}
        bad = {"stream_id": EVIL, "applied": 0, "left": 2, "error": f"KeyError: {EVIL}"}
        outcome = {
            "streams": 2,
            "flowing": 1,
            "applied": 3,
            "left": 2,
            "problem": None,
            "results": [good, bad],
        }
        done = {"taken_at": datetime.now(UTC), "done_at": datetime.now(UTC), "outcome": outcome}
        self.made[request] = self.made[request].model_copy(update=done)
        return self.made[request]

    async def latest(self) -> Listed:
        return Listed(
            actions=list(self.made.values())[::-1], unseen={"user": "postgres-user: connection refused"}
        )


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def poller() -> Shown:
    shown = Shown()
    trouble = examples.in_trouble()
    other = ParkedErrors(
        service="notification", consumer=CONSUMER, error_class="KeyError", streams=1, events=2, oldest=60.0
    )
    shown.board = trouble.model_copy(update={"parked": [*trouble.parked, other]})
    return shown


@pytest.fixture
async def url(poller: Shown, service: Service, tmp_path: Path) -> AsyncIterator[str]:
    actions = Actions(OperatorAuth(TOKEN), service)
    async with serving(poller, tmp_path / "history.sqlite", actions=actions) as url:
        yield url


async def fill(page: Page, token: str = TOKEN, what: str | None = None) -> None:
    """Open the dialog and say who one is."""
    await page.get_by_role("button", name="Redrive…").click()
    dialog = page.get_by_role("dialog", name="Redrive parked streams")
    await expect(dialog).to_be_visible()
    if what:
        await dialog.get_by_label("What", exact=True).select_option(label=what)
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_label("Operator token").fill(token)


async def test_it_is_tried_then_confirmed_then_said(browser: Browser, url: str, service: Service) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page)
        await page.keyboard.press("Enter")  # no mouse needed
        said = page.locator("#redrive-said")
        await expect(said).to_contain_text(
            "1 of 2 streams would flow again: 3 events would be applied, 2 left parked."
        )
        failing = said.get_by_role("table", name="Streams whose event would fail again").get_by_role("row")
        await expect(failing).to_have_count(2)
        await expect(failing.nth(1)).to_contain_text(f"KeyError: {EVIL}")
        confirm = page.get_by_role("button", name="Redrive 2 streams")
        await expect(confirm).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(said).to_contain_text("1 of 2 streams flow again: 3 events applied, 2 left parked.")
        await expect(confirm).to_have_count(0)
        first, second = service.asked
        assert (first.dry_run, first.who, first.consumer) == (True, "Ada", CONSUMER)
        assert (first.stream_id, first.error_class) == (None, None)
        assert second == first.model_copy(update={"dry_run": False, "confirmed": True})
        assert "pwned" not in await page.title()
        assert_clean(watched)


@pytest.mark.parametrize(
    ("what", "stream_id", "error_class"),
    [
        (f"All of {CONSUMER}: 3 streams", None, None),
        ("KeyError: 1 stream", None, "KeyError"),
        (f"{examples.ORDER} (ValidationError)", examples.ORDER, None),
    ],
)
async def test_one_all_or_all_of_an_error_can_be_chosen(
    browser: Browser, url: str, service: Service, what: str, stream_id: str | None, error_class: str | None
) -> None:
    async with opened(browser, url) as watched:
        await fill(watched.page, what=what)
        await watched.page.get_by_role("button", name="Try it").click()
        await expect(watched.page.get_by_role("button", name="Redrive 2 streams")).to_be_visible()
        (asked,) = service.asked
        assert (asked.stream_id, asked.error_class, asked.dry_run) == (stream_id, error_class, True)


async def test_what_was_tried_is_what_is_confirmed(browser: Browser, url: str, service: Service) -> None:
    """Anyone who chooses something else has to try that first."""
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_be_visible()
        await page.get_by_label("What", exact=True).select_option(label="KeyError: 1 stream")
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_have_count(0)
        assert len(service.asked) == 1


@pytest.mark.parametrize("wrong", ["not the token", "wrong", "token–with–dashes"])
async def test_a_wrong_token_is_said_and_nothing_is_asked(
    browser: Browser, url: str, service: Service, wrong: str
) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page, token=wrong)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.locator("#redrive-said .bad")).to_contain_text("the operator token")
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_have_count(0)
        assert service.asked == []
        # The right one then does.
        await page.get_by_label("Operator token").fill(TOKEN)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_be_visible()


async def test_the_token_stays_in_its_tab(browser: Browser, url: str) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_be_visible()
        assert await page.evaluate(
            "() => JSON.stringify(localStorage) + document.cookie + location.href"
        ) == ('{"operator-name":"Ada"}' + f"{url}/")
        await page.reload()
        await page.get_by_role("button", name="Redrive…").click()
        await expect(page.get_by_label("Operator token")).to_have_value(TOKEN)
        await expect(page.get_by_label("Your name")).to_have_value("Ada")


async def test_a_service_that_is_away_keeps_nobody_waiting(
    browser: Browser, url: str, service: Service
) -> None:
    service.is_there = False
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.locator("#redrive-said")).to_contain_text(
            "No process of notification has begun it yet."
        )
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_role("button", name="Redrive…")).to_be_focused()


async def test_what_was_done_is_listed_with_who_and_what(
    browser: Browser, url: str, service: Service
) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await fill(page)
        await page.get_by_role("button", name="Try it").click()
        await page.get_by_role("button", name="Redrive 2 streams").click()
        await expect(page.locator("#redrive-said")).to_contain_text("1 of 2 streams flow again")
        await page.get_by_text("What was done before").click()
        rows = page.get_by_role("table", name="What operators did").get_by_role("row")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(1)).to_contain_text("Ada")
        await expect(rows.nth(1)).to_contain_text(f"{CONSUMER}: all")
        await expect(rows.nth(2)).to_contain_text("(tried only)")
        await expect(page.locator("#redrive-list")).to_contain_text("user: can’t see it")
        assert_clean(watched)


async def test_without_an_operator_token_the_page_says_how_to_have_one(
    browser: Browser, poller: Shown, tmp_path: Path
) -> None:
    async with serving(poller, tmp_path / "history.sqlite") as url, opened(browser, url) as watched:
        await watched.page.get_by_role("button", name="Redrive…").click()
        await expect(watched.page.locator("#redrive-said")).to_contain_text("BOARD_OPERATOR_TOKEN")
        await expect(watched.page.get_by_role("button", name="Try it")).to_be_disabled()
        assert_clean(watched)


async def test_when_nothing_is_parked_there_is_nothing_to_try(
    browser: Browser, url: str, poller: Shown
) -> None:
    poller.board = examples.board()
    async with opened(browser, url) as watched:
        await watched.page.get_by_role("button", name="Redrive…").click()
        await expect(watched.page.locator("#redrive-said")).to_contain_text("No stream is parked.")
        await expect(watched.page.get_by_role("button", name="Try it")).to_be_disabled()
        assert_clean(watched)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["1280 px", "phone"])
async def test_the_dialog_fits_the_screen(browser: Browser, url: str, size: tuple[int, int]) -> None:
    async with opened(browser, url, size) as watched:
        page = watched.page
        await fill(page)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.get_by_role("button", name="Redrive 2 streams")).to_be_visible()
        box = await page.get_by_role("dialog").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["height"] <= size[1]
        wide = (
            "() => document.getElementById('redrive').scrollWidth -"
            " document.getElementById('redrive').clientWidth"
        )
        assert await page.evaluate(wide) <= 0
        assert_clean(watched)
