"""What holds a relay up shows on the board: a record that Kafka refuses; and a clock that was ahead hides
nothing."""

import io
import secrets
from datetime import timedelta

import psycopg
from rich.console import Console

from board.document import Board, StageKind, State
from infra.lag_cli import rendered
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from tests.integration.store_kit import running
from tests.integration.test_board_collector import open_board_kit, stage_of
from tests.support import eventually


async def test_an_event_of_the_future_hides_no_event_that_waits(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> None:
    async with open_board_kit(database, postgres, kafka) as kit:
        await kit.source.append("counter-1", 1)
        await _shift(database, timedelta(hours=2))

        alone = await kit.stage("echo", StageKind.RELAY)
        assert (alone.age, alone.pending, alone.state) == (None, 1, State.NOT_STARTED)
        assert alone.event is not None
        assert (alone.event.error or "").startswith("clocks disagree: recorded 1 h 5")

        await kit.source.append("counter-2", 1)
        [(waits,)] = await kit.source.fetch("SELECT recorded_at FROM events WHERE position = 2")
        both = await kit.age_is_true("echo", StageKind.RELAY, since=waits)
        assert both.pending == 2
        assert both.event is not None
        assert both.event.position == 1
        model = await kit.age_is_true("totals", StageKind.READ_MODEL, since=waits)
        assert model.event is not None
        assert (model.event.error or "").startswith("clocks disagree: recorded 1 h 5")


async def test_a_record_that_kafka_refuses_is_what_the_relay_is_stuck_on(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> None:
    small = {"max.message.bytes": "4000"}
    async with open_board_kit(database, postgres, kafka, configs=small) as kit:
        await kit.source.append("counter-1", 1, padding=secrets.token_hex(3000))
        async with running(kit.source.relay()):

            async def stuck() -> Board:
                board = await kit.look()
                [path] = [one for one in board.paths if one.projection == "echo"]
                relay = stage_of(path, StageKind.RELAY)
                assert (path.state, relay.state, relay.pending) == (State.STUCK, State.STUCK, 1)
                return board

            board = await eventually(stuck, 30.0, "the relay is stuck")
            [path] = [one for one in board.paths if one.projection == "echo"]
            event = stage_of(path, StageKind.RELAY).event
            assert event is not None
            assert (event.type, event.stream_id) == ("Counted", "counter-1")
            assert "refused: position 1 (Counted) has " in (event.error or "")
            shown = io.StringIO()
            Console(file=shown, width=1000).print(rendered(board))  # what `millrace lag` prints
            assert "bytes, more than max.message.bytes: `kafka" in shown.getvalue()
            assert " --add-config max.message.bytes=7" in shown.getvalue(), "the command is not cut off"


async def _shift(database: DatabaseUrls, by: timedelta) -> None:
    """As if the store's clock had been ahead by this much when its events were appended."""
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER append_only")
        await connection.execute("UPDATE events SET recorded_at = recorded_at + %s", (by,))
        await connection.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")
