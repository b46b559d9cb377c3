"""The board's page in a real browser: it updates by itself, opens, searches, and says what it can't see.

The boards that the page is shown are made up, so that each test decides what happens; what the board says of
real servers is tested where those run.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from board.document import Eta, Headline, StageKind, State
from infra.local.ports import free_ports
from tests.board_pages import DESK, PHONE, assert_clean, opened
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown, serving

EVIL = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"

expect.set_options(timeout=10_000)


@pytest.fixture
def poller() -> Shown:
    return Shown()


@pytest.fixture
async def url(poller: Shown, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(poller, tmp_path / "history.sqlite") as url:
        yield url


async def test_the_headline_changes_without_a_reload(browser: Browser, url: str, poller: Shown) -> None:
    async with opened(browser, url) as watched:
        await expect(watched.page.locator("#headline")).to_have_text(examples.FINE)
        poller.board = examples.in_trouble()
        await expect(watched.page.locator("#headline")).to_contain_text("stuck on OrderShipped (attempt 7")
        await expect(watched.page.locator("#headline-state")).to_have_text("stuck")
        poller.board = examples.board()
        await expect(watched.page.locator("#headline-state")).to_have_text("up to date")
        assert_clean(watched)


async def test_the_headline_says_how_old_it_is(browser: Browser, url: str) -> None:
    async with opened(browser, url) as watched:
        await expect(watched.page.locator("#headline-age")).to_contain_text(" old")


async def test_the_slowest_box_stands_out_and_says_so(browser: Browser, url: str, poller: Shown) -> None:
    poller.board = examples.in_trouble()
    async with opened(browser, url) as watched:
        box = watched.page.get_by_role("button", name="reservations, consumer inventory-service.stock: stuck")
        await expect(box).to_contain_text("3 min 50 s")
        await expect(box).to_have_class("box consumer bad slowest")
        assert "the slowest stage of this path" in (await box.get_attribute("aria-label") or "")


async def test_a_box_opens_to_its_partitions_its_event_and_its_past(
    browser: Browser, url: str, poller: Shown
) -> None:
    poller.board = examples.in_trouble()
    async with opened(browser, url) as watched:
        page = watched.page
        box = page.get_by_role("button", name="reservations, consumer inventory-service.stock")
        await box.focus()
        await page.keyboard.press("Enter")  # no mouse needed
        await expect(box).to_have_attribute("aria-expanded", "true")
        rows = page.get_by_role("table", name="Partitions of inventory-service.stock").get_by_role("row")
        await expect(rows).to_have_count(1 + examples.PARTITIONS)
        await expect(rows.nth(4)).to_contain_text("stuck")
        await expect(rows.nth(4)).to_contain_text("KeyError 'carrier'")
        await expect(rows.nth(5)).to_contain_text("up to date")
        await expect(page.locator(".more canvas")).to_be_visible()
        await expect(page.locator(".more")).to_contain_text("2 members, was 1")
        await page.get_by_role("button", name="Close").click()
        await expect(page.locator(".more")).to_have_count(0)
        assert_clean(watched)


async def test_what_is_catching_up_says_when_it_will_be_done(
    browser: Browser, url: str, poller: Shown
) -> None:
    eta, busy = Eta(low=20, high=65), State.CATCHING_UP
    path = examples.topic_path(
        "inventory", "reservations", "order", "orders.events", "inventory-service.stock"
    )
    stages = [
        each.model_copy(update={"state": busy, "age": 30.0, "pending": 900, "eta": eta, "slowest": True})
        if each.kind is StageKind.CONSUMER
        else each
        for each in path.stages
    ]
    poller.board = examples.board([path.model_copy(update={"stages": stages, "state": busy, "age": 30.0})])
    async with opened(browser, url) as watched:
        box = watched.page.get_by_role("button", name="reservations, consumer inventory-service.stock")
        await expect(box).to_contain_text("20 s–1 min")
        assert "caught up in 20 s to 1 min 5 s" in (await box.get_attribute("aria-label") or "")
        await expect(watched.page.get_by_role("group", name="reservations of the inventory")).to_contain_text(
            "30 s behind"
        )


async def test_a_pass_that_fails_is_no_fresh_headline(browser: Browser, url: str, poller: Shown) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await expect(page.locator("#headline-state")).to_have_text("up to date")
        poller.fails = KeyError("carrier")
        await expect(page.locator("#headline-state")).to_have_text("can’t see")
        await expect(page.locator("#headline")).to_contain_text("Platform unreachable for ")
        await expect(page.locator("#headline")).to_contain_text("the last pass failed: KeyError: 'carrier'")
        await expect(page.locator(".path .state.calm")).to_have_count(0)
        await expect(page.locator("#headline-age")).to_contain_text(
            re.compile(r"[2-9]\.\d s old")
        )  # and it grows
        poller.fails = None
        await expect(page.locator("#headline-state")).to_have_text("up to date")


async def test_what_was_not_counted_to_its_end_waits_at_least(
    browser: Browser, url: str, poller: Shown
) -> None:
    path = examples.own_path("notification", "e-mails")
    held = {"state": State.CATCHING_UP, "pending": 10_001, "at_least": True, "age": 30.0}
    stages = [path.stages[0], path.stages[1].model_copy(update=held)]
    poller.board = examples.board([path.model_copy(update={"stages": stages, **held})])
    async with opened(browser, url) as watched:
        box = watched.box("e-mails", "read model")
        await expect(box).to_contain_text("at least 10K waiting")
        assert "at least 10,001 waiting" in (await box.get_attribute("aria-label") or "")


async def test_a_key_of_thousands_of_characters_is_shortened_and_can_still_be_looked_for(
    browser: Browser, url: str, poller: Shown
) -> None:
    key, blanks = "k" * 4000, "a key with blanks " * 220
    row = examples.in_trouble().parked_streams[0]
    parked = [row.model_copy(update={"stream_id": one}) for one in (key, blanks)]
    poller.board = examples.board(parked=examples.in_trouble().parked, parked_streams=parked)
    async with opened(browser, url) as watched:
        links = watched.page.locator("#parked a.mono")
        await expect(links).to_have_count(2)
        shown = await links.all_inner_texts()
        assert [len(one) <= 120 and "…" in one for one in shown] == [True, True]
        assert key in (await links.nth(0).get_attribute("href") or "")
        assert_clean(watched)


async def test_of_very_many_partitions_those_in_trouble_are_listed(
    browser: Browser, url: str, poller: Shown
) -> None:
    path = examples.topic_path(
        "inventory", "reservations", "order", "orders.events", "inventory-service.stock"
    )
    held = examples.partition(777, State.STUCK, 60.0, pending=5)
    many = [held if number == 777 else examples.partition(number) for number in range(1000)]
    stages = [
        each.model_copy(update={"partitions": many}) if each.kind is StageKind.CONSUMER else each
        for each in path.stages
    ]
    poller.board = examples.board([path.model_copy(update={"stages": stages})])
    async with opened(browser, url) as watched:
        await watched.page.get_by_role("button", name="reservations, consumer").click()
        rows = watched.page.get_by_role("table", name="Partitions of").get_by_role("row")
        await expect(rows.nth(1)).to_contain_text("777")
        await expect(rows).to_have_count(61)
        await expect(watched.page.locator(".more")).to_contain_text("60 of 1,000 partitions")
        assert_clean(watched)


async def test_a_path_says_what_its_canary_took_and_that_one_waits(
    browser: Browser, url: str, poller: Shown
) -> None:
    arrived = examples.canary("order", "orders", round_trip=0.084, waiting=None)
    waits = examples.canary("order", "saga", "inventory.events", round_trip=None, waiting=12.0)
    poller.board = examples.board(canaries=[arrived, waits])
    async with opened(browser, url) as watched:
        await expect(watched.path("orders")).to_contain_text("canary 84 ms")
        await expect(watched.path("saga")).to_contain_text("canary waits for 12 s")
        await expect(watched.path("users")).not_to_contain_text("canary")


async def test_what_is_in_somebodys_hands_stays_when_a_new_board_comes(
    browser: Browser, url: str, poller: Shown
) -> None:
    """A board comes every second: focus and selection must survive it."""
    poller.board = examples.in_trouble()
    async with opened(browser, url) as watched:
        link = watched.page.locator("#parked a").first
        await link.focus()
        look = watched.page.locator("#pass")
        for _ in range(2):
            shown = await look.text_content()
            await expect(look).not_to_have_text(shown or "")
        await expect(link).to_be_focused()


async def test_an_order_is_found(browser: Browser, url: str) -> None:
    async with opened(browser, url) as watched:
        page = watched.page
        await page.get_by_label("Order id, event id or correlation id").fill(examples.ORDER)
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("#found")).to_contain_text("OrderCreated")
        await expect(page.locator("#found li.waiting")).to_contain_text("waiting here for 3 min 50 s")
        assert_clean(watched)


async def test_what_is_no_id_is_answered_with_the_reason(browser: Browser, url: str) -> None:
    async with opened(browser, url) as watched:
        await watched.page.get_by_label("Order id, event id or correlation id").fill("no id")
        await watched.page.keyboard.press("Enter")
        await expect(watched.page.locator("#found")).to_contain_text("ids have no blanks")


async def test_markup_in_names_and_errors_is_text(browser: Browser, url: str, poller: Shown) -> None:
    path = examples.topic_path("order", EVIL, "inventory", "inventory.events", EVIL)
    path = examples.stuck(path, error=EVIL)
    stages = [
        each.model_copy(
            update={"partitions": [part.model_copy(update={"member": EVIL}) for part in each.partitions]}
        )
        for each in path.stages
    ]
    poller.board = examples.board(
        [path.model_copy(update={"stages": stages})],
        headline=Headline(text=EVIL, state=State.STUCK, as_of=examples.AT, age=0.1),
        groups=[examples.group(EVIL, client=EVIL)],
    )
    async with opened(browser, url) as watched:
        page = watched.page
        await expect(page.locator("#headline")).to_have_text(EVIL)
        await page.locator(".box.bad").click()
        await expect(page.locator(".more")).to_contain_text(EVIL)
        await expect(page.locator("#groups")).to_contain_text(EVIL)
        assert await page.locator("main script, main img").count() == 0
        assert "pwned" not in (await page.title()).replace(EVIL[:60], "")
        assert_clean(watched)


async def test_the_browser_refuses_markup_made_from_strings(browser: Browser, url: str) -> None:
    """Should anybody write innerHTML one day: the page's policy makes it an error."""
    async with opened(browser, url) as watched:
        refused = (
            "() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } }"
        )
        assert await watched.page.evaluate(refused)


async def test_the_page_says_that_nothing_comes_and_goes_on_when_it_does(
    browser: Browser, poller: Shown, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    file = tmp_path / "history.sqlite"
    async with AsyncExitStack() as until_the_end:
        async with serving(poller, file, port) as url:
            page = (await until_the_end.enter_async_context(opened(browser, url))).page
        await expect(page.locator("#link-text")).to_contain_text("trying again")
        # The last answer stays, and its age says what it is worth.
        await expect(page.locator("#headline")).to_have_text(examples.FINE)
        await expect(page.locator("#headline-age")).to_contain_text(" old")
        poller.board = examples.in_trouble()
        async with serving(poller, file, port):
            await expect(page.locator("#link-text")).to_have_text("Live", timeout=15_000)
            await expect(page.locator("#headline-state")).to_have_text("stuck")


async def test_a_server_that_cannot_be_seen_is_named(browser: Browser, url: str, poller: Shown) -> None:
    kafka = examples.source("kafka", seen=False, age=24.0, problem="connection refused")
    text = "Kafka unreachable for 24 s. Showing data from 12:03:10."
    poller.board = examples.board(
        sources=[kafka], headline=Headline(text=text, state=State.CANT_SEE, as_of=examples.AT, age=24.0)
    )
    async with opened(browser, url) as watched:
        await expect(watched.page.locator("#headline")).to_have_text(text)
        await expect(watched.page.locator("#notices")).to_contain_text("kafka: can’t see it for 24 s")
        assert_clean(watched)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["1280 px", "phone"])
async def test_a_store_that_went_back_is_the_answer_with_the_command_to_run(
    browser: Browser, url: str, poller: Shown, size: tuple[int, int]
) -> None:
    poller.board = examples.went_back()
    async with opened(browser, url, size) as watched:
        page = watched.page
        await expect(page.locator("#headline")).to_contain_text(
            "The order store went back: orders.events holds"
        )
        await expect(page.locator("#headline code")).to_have_text("millrace restore order")
        await expect(page.locator("#headline-state")).to_have_text("suspended")
        await expect(page.locator("#notices")).to_contain_text("the first: position 1,205, OrderCreated of")
        await expect(watched.box("reservations", "relay")).to_have_class("box relay lost zero suspended")
        await expect(watched.box("reservations", "consumer")).to_have_class("box consumer calm zero")
        await expect(watched.box("orders", "event store")).to_contain_text("suspended")
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
        poller.board = examples.board()
        await expect(page.locator("#headline")).to_have_text(examples.FINE)
        await expect(page.locator("#notices")).to_be_hidden()
        assert_clean(watched)


async def test_conflicting_streams_and_foreign_records_are_called_that(
    browser: Browser, url: str, poller: Shown
) -> None:
    poller.board = examples.went_back()
    async with opened(browser, url) as watched:
        await expect(watched.page.locator("#parked-count")).to_have_text("1 conflicting, 2 foreign")
        await expect(watched.path("reservations")).to_contain_text("1 conflicting, 2 foreign")
        await expect(watched.page.locator("#parked")).to_contain_text(
            "conflicting stream: version 4 is another event"
        )
        await expect(watched.page.locator("#parked")).to_contain_text("foreign:orders.events/3/1042")
        # A foreign record is no stream: only the other one can be looked for.
        await expect(watched.page.locator("#parked a")).to_have_text([examples.ORDER])


async def test_the_map_shows_the_partition_that_is_behind(browser: Browser, url: str, poller: Shown) -> None:
    poller.board = examples.board([examples.stuck(examples.usual_paths()[4])])
    async with opened(browser, url) as watched:
        page = watched.page
        await expect(page.locator("#heat-path")).to_contain_text("reservations")
        stuck = "Worst: partition 3, 3 min 50 s behind"
        await expect(page.locator("#heat-said")).to_contain_text(stuck)
        assert stuck in (await page.locator("#heat").get_attribute("aria-label") or "")
        await page.get_by_role("button", name="24 h").click()
        await expect(page.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
        assert_clean(watched)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["1280 px", "phone"])
async def test_nothing_is_wider_than_the_screen(
    browser: Browser, url: str, poller: Shown, size: tuple[int, int]
) -> None:
    poller.board = examples.in_trouble()
    async with opened(browser, url, size) as watched:
        await watched.page.locator(".box.slowest.bad").click()
        await expect(watched.page.locator(".more canvas")).to_be_visible()
        assert await watched.page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
        assert_clean(watched)


async def test_the_theme_is_the_systems_until_another_is_chosen(browser: Browser, url: str) -> None:
    background = "() => getComputedStyle(document.body).backgroundColor"
    async with opened(browser, url, scheme="dark") as watched:
        page = watched.page
        assert await page.evaluate(background) == "rgb(16, 20, 24)"
        await page.get_by_role("button", name="Theme").click()  # dark
        await page.get_by_role("button", name="Theme").click()  # light
        assert await page.evaluate(background) == "rgb(246, 247, 248)"
        await page.reload()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        assert await page.evaluate(background) == "rgb(246, 247, 248)"
        assert_clean(watched)
