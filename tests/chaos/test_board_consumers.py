"""The board tells the truth about consumers that are frozen, killed, poisoned, moved about or driven mad;
within 10 s."""

import re
from collections.abc import Callable

import pytest

from board.document import Board, StageKind, State
from infra.local.stack import Stack
from schemas.topics import ORDERS
from tests.chaos.board_kit import (
    alter_offsets,
    members_come_and_go,
    path_of,
    refused,
    stage_of,
    under_traffic,
    well_besides,
)
from tests.chaos.outcome import everything_happened_once
from tests.e2e.platform import Platform

pytestmark = [pytest.mark.local_stack, pytest.mark.usefixtures("audited")]

RESERVATIONS, STOCK_GROUP = "inventory/reservations", "inventory-service.stock"
REQUESTS, REQUESTS_GROUP = "notification/requests", "notification-service.requests"
SESSION = 10.0  # seconds until Kafka throws a silent member out


def end_is(path_id: str, *states: State) -> Callable[[Board], bool]:
    """Whether the path's end, by the rows of the database, is in one of these states."""
    return lambda board: stage_of(board, path_id, StageKind.READ_MODEL).state in states


STOPPED = rf"reservations is .*: {STOCK_GROUP} is stopped: no consumer has read {ORDERS.name} for \S+ s"
STUCK = rf"reservations is .*partitions?( \d+)? of {ORDERS.name} (is|are) stuck.* on \S+ for \S+ s"
RELAY_STUCK = r"[a-z]+ is .*: the relay of inventory is stuck on \S+ for \S+ s"


def assert_says(board: Board, sentence: str, besides: str = "") -> None:
    """`sentence`: a pattern. `besides` follows, and how many others are not up to date may."""
    assert re.fullmatch(rf"{sentence}(; \d more (is|are) not up to date)?{besides}\.", board.headline.text), (
        board.headline.text
    )


def assert_notification_is_down(board: Board, besides: str = "") -> None:
    """Which of its paths is named depends on where the oldest event was when it went down."""
    waits = r", [\d,]+ events? waits? for \S+ s"
    assert_says(board, f"[a-z-]+ is .*: the notification service does not run({waits})?", besides)


async def test_a_consumer_that_is_frozen_is_stuck_and_then_stopped(stack: Stack, platform: Platform) -> None:
    async with under_traffic(stack) as seen:
        seen.breaks()
        await stack.pause("inventory")

        board, after = await seen.shows(
            end_is(RESERVATIONS, State.STUCK, State.STOPPED), "reservations stuck"
        )

        held = path_of(board, RESERVATIONS)
        assert board.headline.state is held.state
        # What it had appended, and had not sent when it froze, waits as well, and may be older.
        assert_says(board, f"({STUCK}|{STOPPED}|{RELAY_STUCK})")
        assert held.age == pytest.approx(after, abs=2.0)  # since the first order that it did not see
        assert well_besides(board, RESERVATIONS, "order/saga", "order/catalogue")

        board, _ = await seen.shows(end_is(RESERVATIONS, State.STOPPED), "stopped", within=SESSION + 10)
        assert_says(board, f"({STOPPED}|{RELAY_STUCK})")
        await stack.resume("inventory")
    await everything_happened_once(platform, seen.traffic)


async def test_a_consumer_that_is_killed_is_stopped(stack: Stack, platform: Platform) -> None:
    async with under_traffic(stack) as seen:
        seen.breaks()
        await stack.kill("notification")

        board, after = await seen.shows(end_is(REQUESTS, State.STOPPED), "requests stopped")

        assert path_of(board, REQUESTS).age == pytest.approx(after, abs=2.0)
        assert_notification_is_down(board)
        await stack.start("notification")
    await everything_happened_once(platform, seen.traffic, copies=True)


async def test_a_poisonous_event_is_parked_and_the_rest_goes_on(stack: Stack, platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)
    async with under_traffic(stack) as seen:
        async with refused(stack, "notification", customer.id, "raise_exception", "poison"):
            await platform.placed(customer, sku)
            seen.breaks()

            board, _ = await seen.shows(
                lambda board: path_of(board, REQUESTS).parked_streams == 1, "one is parked"
            )

            assert board.headline.text.endswith("; 1 stream is parked.")
            [error] = board.parked
            assert (error.service, error.consumer, error.error_class) == (
                "notification", REQUESTS_GROUP, "RaiseException"
            )  # fmt: skip
            [parked] = board.parked_streams
            assert (parked.event_type, parked.error, parked.attempts) == ("OrderCreated", "poison", 3)
            assert parked.stream_id.startswith("order-")
            await seen.is_well()  # its partition too
        redriven = await stack.tool("notification", "parked", "redrive", "--all")
        assert redriven.code == 0, redriven
        seen.breaks()
        board, _ = await seen.shows(
            lambda board: path_of(board, REQUESTS).parked_streams == 0, "none is parked"
        )
        assert (board.parked, board.parked_streams) == ([], [])
    await platform.mail_count_becomes(customer, 2)
    await everything_happened_once(platform, seen.traffic)


async def test_an_event_that_is_tried_in_vain_is_stuck_and_named(stack: Stack, platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)
    async with (
        under_traffic(stack) as seen,
        refused(stack, "notification", customer.id, "lock_not_available", "somebody has it"),
    ):
        order_id = await platform.placed(customer, sku)
        seen.breaks()

        board, _ = await seen.shows(end_is(REQUESTS, State.STUCK), "requests stuck")

        held = stage_of(board, REQUESTS, StageKind.READ_MODEL)
        stuck = [part.event for part in held.partitions if part.state is State.STUCK and part.event]
        assert f"order-{order_id}" in {event.stream_id for event in stuck}
        assert " stuck" in board.headline.text
        assert " on Order" in board.headline.text
        assert well_besides(board, REQUESTS)
    await platform.mail_count_becomes(customer, 2)
    await everything_happened_once(platform, seen.traffic)


BEYOND = 1_000_000


@pytest.mark.parametrize(
    ("to", "state", "said"),
    [
        pytest.param(lambda start, _: start, State.MOVED_BACK, "; the offsets of"
            " notification-service.requests were moved back", id="beginning"),
        pytest.param(lambda _, end: end, None, "", id="end"),
        pytest.param(lambda _, end: end + BEYOND, State.AHEAD, "; the offsets of"
            " notification-service.requests are beyond the end of the topic",
                     id="beyond"),
    ],
)  # fmt: skip
async def test_offsets_that_are_reset_show_and_hide_nothing(
    stack: Stack, platform: Platform, to: Callable[[int, int], int], state: State | None, said: str
) -> None:
    """The consumer's place is in the rows of its database: what was committed to Kafka instead is told beside
    it."""
    async with under_traffic(stack) as seen:
        seen.breaks()
        await stack.stop("notification")
        stopped_for = seen.broken_for
        await seen.traffic.goes_on(8)
        seen.breaks()
        await alter_offsets(stack, REQUESTS_GROUP, ORDERS, to)

        def shown(board: Board) -> bool:
            by_kafka = stage_of(board, REQUESTS, StageKind.CONSUMER)
            by_rows = stage_of(board, REQUESTS, StageKind.READ_MODEL)
            assert by_rows.state is State.STOPPED
            if state is not None:
                return by_kafka.state is state
            return (by_kafka.pending or 0) < (by_rows.pending or 0) / 2  # what came since

        board, after = await seen.shows(shown, "reset")

        path = path_of(board, REQUESTS)
        assert path.state is State.STOPPED
        assert stopped_for + after - 3.0 < (path.age or 0)  # the truth is older than what Kafka tells
        assert_notification_is_down(board, said)
        await stack.start("notification")
    await everything_happened_once(platform, seen.traffic, copies=True)


async def test_a_storm_of_rebalances_shows(stack: Stack, platform: Platform) -> None:
    async with under_traffic(stack) as seen:
        before = rebalances(await seen.board())
        seen.breaks()
        async with members_come_and_go(stack, STOCK_GROUP, ORDERS.name):
            board, _ = await seen.shows(
                lambda board: stage_of(board, RESERVATIONS, StageKind.CONSUMER).state is State.REBALANCING,
                "a rebalance",
            )
            assert well_besides(board, RESERVATIONS)
            board, _ = await seen.shows(
                lambda board: rebalances(board) >= before + 2 and board.headline.state is State.REBALANCING,
                "a storm",
            )
            assert f": {STOCK_GROUP} is rebalancing" in board.headline.text
            assert [mark for mark in board.marks if (mark.kind, mark.subject) == ("rebalance", STOCK_GROUP)]
    await everything_happened_once(platform, seen.traffic)


def rebalances(board: Board) -> int:
    return next(group.rebalances for group in board.groups if group.name == STOCK_GROUP)
