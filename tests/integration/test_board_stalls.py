"""Why something is stuck, told from outside the worker: the event in hand, its attempts and its error."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import psycopg
import pytest

from board.document import HeldEvent, Stage, StageKind, State
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from millrace.domain.events import RecordedEvent
from tests.integration.store_kit import running
from tests.integration.test_board_collector import (
    BoardKit,
    consuming,
    is_in,
    is_up_to_date,
    open_board_kit,
    stage_of,
)
from tests.integration.test_projector import Totals
from tests.support import eventually


@pytest.fixture
async def kit(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[BoardKit]:
    async with open_board_kit(database, postgres, kafka) as kit:
        yield kit


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of Postgres in this process."""
    asked: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def counted(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(query.decode() if isinstance(query, bytes) else str(query))
        return await execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    return asked


async def held_with_error(kit: BoardKit, projection: str, kind: StageKind) -> HeldEvent:
    path = await is_in(kit, projection, State.STUCK)
    held = stage_of(path, kind).event
    assert held is not None, path
    assert held.error is not None, held
    return held


async def stalls(kit: BoardKit, database: DatabaseUrls) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        found = await connection.execute("SELECT worker, attempts, error FROM stalls ORDER BY worker")
        return await found.fetchall()


async def test_what_a_consumer_waits_for_is_said_at_the_event_in_hand_and_over_when_it_has_passed(
    kit: BoardKit,
) -> None:
    async with running(kit.source.relay(), kit.projector), consuming(kit):
        await kit.source.append("counter-1", 1)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        kit.recorder.away = unavailable("no route to the user service")
        await kit.source.append("counter-1", 2)

        held = await eventually(lambda: held_with_error(kit, "echo", StageKind.CONSUMER), 12.0, "stuck")

        assert (held.type, held.stream_id, held.version) == ("Counted", "counter-1", 2)
        assert held.error == "UNAVAILABLE no route to the user service"
        assert (held.attempts or 0) > 3
        board = await kit.look()
        assert "is stuck on Counted (attempt " in board.headline.text
        assert ": UNAVAILABLE no route to the user service) for " in board.headline.text
        path = next(one for one in board.paths if one.projection == "echo")
        end = stage_of(path, StageKind.READ_MODEL).event
        assert end is not None
        assert end.error == held.error

        found = (await kit.collector.where("counter-1")).events
        event = next(one for one in found if (one.stream_id, one.version) == ("counter-1", 2))
        waiting = next(hop for hop in event.hops if hop.name == "echo")
        assert waiting.state == "waiting"
        assert "is held up at Counted (attempt " in waiting.text
        assert waiting.text.endswith(": UNAVAILABLE no route to the user service)")

        kit.recorder.away = None
        await eventually(lambda: is_up_to_date(kit, "echo"), 15.0, "echo up to date again")
        await eventually(lambda: nothing_is_left(kit), 5.0, "the row is gone")


async def test_an_event_that_a_read_model_can_t_apply_is_named_with_its_error(
    kit: BoardKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def apply(_model: Totals, _connection: Any, events: Sequence[RecordedEvent]) -> None:
        raise KeyError("carrier")

    monkeypatch.setattr(Totals, "apply", apply)
    async with running(kit.projector):
        await kit.source.append("counter-1", 1, 2)

        held = await eventually(lambda: held_with_error(kit, "totals", StageKind.READ_MODEL), 12.0, "stuck")

        assert (held.type, held.stream_id, held.version) == ("Counted", "counter-1", 1)
        assert (held.attempts, held.error) == (1, "KeyError 'carrier'")
        text = (await kit.look()).headline.text
        assert "totals is stuck on Counted (attempt 1: KeyError 'carrier') for " in text


async def test_a_relay_that_cannot_send_says_why_and_not_that_it_does_not_run(kit: BoardKit) -> None:
    async with running(kit.source.relay()):
        await kit.source.append("counter-1", 1)
        await kit.source.cursor_reaches_head()
    await kit.source.kafka.delete_topic(kit.source.topic.name)
    await kit.source.append("counter-1", 2)
    async with running(kit.source.relay()):
        stage = await eventually(lambda: relay_with_error(kit), 15.0, "the relay's error")

        assert stage.event is not None
        assert stage.event.type == "Counted"
        assert (stage.event.error or "").startswith("no topic: ")
        assert stage.state is not State.STOPPED
        await kit.source.kafka.create_topic(kit.source.topic.name, partitions=kit.source.topic.partitions)
        stage = await eventually(lambda: relay_with_error(kit, "topic lost: "), 20.0, "topic lost")


async def relay_with_error(kit: BoardKit, said: str = "") -> Stage:
    stage = await kit.stage("echo", StageKind.RELAY)
    assert stage.event is not None
    assert stage.event.error is not None, stage
    assert said in stage.event.error
    return stage


async def nothing_is_left(kit: BoardKit) -> bool:
    assert await stalls(kit, kit.reader) == []
    return True


async def test_a_consumer_that_gets_on_writes_nothing_of_this(kit: BoardKit, statements: list[str]) -> None:
    async with running(kit.source.relay()), consuming(kit):
        for n in range(5):
            await kit.source.append("counter-1", n)
            await kit.source.append(f"counter-{n + 2}", n)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")

    assert any("consumer_positions" in one for one in statements)
    assert not [one for one in statements if "INTO public.stalls" in one or "stalls AS t USING" in one]


def unavailable(details: str) -> Exception:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details
    )
