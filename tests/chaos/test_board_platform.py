"""The board tells the truth while a relay, the broker, a database or a topic is gone, and while a replay
runs; within 10 s."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from board.collector import DEADLINE
from board.document import Board, Build, StageKind, State
from infra.local.stack import Stack
from schemas.topics import ORDERS
from tests.chaos.board_kit import PROMISED, builds_held, path_of, stage_of, under_traffic, well_besides
from tests.chaos.outcome import everything_happened_once
from tests.e2e.platform import RECOVERY, Platform
from tests.e2e.test_lost_kafka import delete_topic

pytestmark = [pytest.mark.local_stack, pytest.mark.usefixtures("audited")]

BEHIND_ORDERS = ("inventory/reservations", "notification/requests")
"""What hears of orders."""
OWN_STORE = ("order/orders", "inventory/stock", "notification/notifications", "user/users")
"""What needs no Kafka."""


async def test_a_relay_that_does_not_run_is_named(stack: Stack, platform: Platform) -> None:
    # Other settings for the same stack: its order service takes orders, and sends nothing.
    without_relay = Stack(stack.topology, stack.home.root, {"ORDER_ROLES": "http,grpc,consumers"})
    async with under_traffic(stack) as seen:
        await without_relay.restart("order")
        seen.breaks()

        def stopped(board: Board) -> bool:
            return all(
                stage_of(board, path, StageKind.RELAY).state is State.STOPPED for path in BEHIND_ORDERS
            )

        board, _ = await seen.shows(stopped, "the relay stopped")

        assert well_besides(board, *BEHIND_ORDERS)
        assert {path_of(board, path).held_at for path in BEHIND_ORDERS} == {StageKind.RELAY}
        assert ": the relay of order does not run, " in board.headline.text
        assert [relay.leader for relay in board.relays if relay.service == "order"] == [None]
        await stack.restart("order")
    await everything_happened_once(platform, seen.traffic)


async def test_a_broker_that_is_down_is_said_with_the_age_of_the_numbers(
    stack: Stack, platform: Platform
) -> None:
    async with under_traffic(stack) as seen:
        seen.breaks()
        broke_at = datetime.now(UTC)
        await stack.kill("kafka")

        board, _ = await seen.shows(lambda board: board.headline.state is State.CANT_SEE, "can't see Kafka")

        assert board.headline.text.startswith("Kafka unreachable for ")
        assert board.headline.as_of == pytest.approx(broke_at, abs=timedelta(seconds=3))
        assert board.headline.as_of.strftime(". Showing data from %H:%M:%S.") in board.headline.text
        assert all(path_of(board, path).state is State.CANT_SEE for path in BEHIND_ORDERS)
        await seen.traffic.goes_on(8)  # orders go through
        board = await seen.board()
        assert all(path_of(board, path).state is State.UP_TO_DATE for path in OWN_STORE)
        assert board.headline.age == pytest.approx((board.at - broke_at).total_seconds(), abs=3)
        await stack.start("kafka")
    await everything_happened_once(platform, seen.traffic)


@pytest.mark.parametrize("fault", ["stop", "pause"])
async def test_a_database_that_is_away_is_named_and_blinds_nobody(
    stack: Stack, platform: Platform, fault: str
) -> None:
    async with under_traffic(stack) as seen:
        seen.breaks()
        broke_at = datetime.now(UTC)
        await getattr(stack, fault)("postgres-notification")

        board, _ = await seen.shows(
            lambda board: board.headline.state is State.CANT_SEE, "can't see a Postgres"
        )

        assert board.headline.text.startswith("Postgres of notification unreachable for ")
        assert board.headline.as_of == pytest.approx(broke_at, abs=timedelta(seconds=3))
        gone = [path.id for path in board.paths if path.service == "notification"]
        assert all(path_of(board, path).state is State.CANT_SEE for path in gone)
        assert well_besides(board, *gone)
        assert board.took < DEADLINE  # it holds up nobody
        await stack.start("postgres-notification")
    await everything_happened_once(platform, seen.traffic, copies=True)


async def test_a_topic_that_was_deleted_and_created_anew_has_lost_data(
    stack: Stack, platform: Platform
) -> None:
    async with under_traffic(stack) as seen:
        seen.breaks()
        await delete_topic(stack, ORDERS.name)
        await stack.up()  # creates it

        def lost(board: Board) -> bool:
            return all(
                stage_of(board, path, StageKind.TOPIC).state is State.LOSING_DATA for path in BEHIND_ORDERS
            )

        board, _ = await seen.shows(lost, "lost data")

        assert f"{ORDERS.name} has lost events that were sent to it" in board.headline.text
        assert well_besides(board, *BEHIND_ORDERS)
        assert [mark for mark in board.marks if (mark.kind, mark.subject) == ("topic", ORDERS.name)]
        filled = await stack.tool("order", "replay", "republish")
        assert filled.code == 0, filled
    await everything_happened_once(platform, seen.traffic)


async def test_a_replay_shows_its_progress_and_the_live_path_is_up_to_date(
    stack: Stack, platform: Platform
) -> None:
    async with under_traffic(stack) as seen:
        async with builds_held(stack, "order"):
            seen.breaks()
            rebuilding = asyncio.create_task(
                stack.tool("order", "replay", "rebuild", "orders", "--no-cutover")
            )
            board, _ = await seen.shows(
                lambda board: being_built(board, "orders"), "a build", within=RECOVERY
            )
            build = being_built(board, "orders")
            assert build is not None
            assert board.at - build.began_at < timedelta(
                seconds=PROMISED
            )  # starting the program is not the board's
            assert (build.service, build.building, build.built, build.fraction) == ("order", True, False, 0.0)
            await seen.is_well()  # readers and writers notice nothing
        ran = await rebuilding
        assert ran.code == 0, ran

        seen.breaks()
        board, _ = await seen.shows(
            lambda board: (build := being_built(board, "orders")) and build.built, "a copy that waits"
        )
        build = being_built(board, "orders")
        assert build is not None
        assert not build.building
        assert build.fraction == pytest.approx(1.0, abs=0.3)  # orders flow

        ran = await stack.tool("order", "replay", "rebuild", "orders")
        assert ran.code == 0, ran
        seen.breaks()
        board, _ = await seen.shows(lambda board: not being_built(board, "orders"), "the copy took over")
        assert [mark for mark in board.marks if (mark.kind, mark.subject) == ("take-over", "order/orders")]
    await everything_happened_once(platform, seen.traffic)


def being_built(board: Board, model: str) -> Build | None:
    return next((build for build in board.builds if build.model == model), None)
