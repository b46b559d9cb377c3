"""A relay whose row is locked says that it waits, and for whom; on the board too."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from board.collector import Collector
from board.declared import Declared, Projection
from board.document import Stage, StageKind, State
from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.relay import RelayState
from tests.integration.store_kit import RelayKit, first_occurrences, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


async def test_a_relay_whose_row_is_locked_waits_and_names_who_has_it(kit: RelayKit) -> None:
    relay = kit.relay()
    topic = kit.topic.name
    reader = Projection("counter", "echo", "reaction", unique("counter-service.echo"), (topic,))
    declared = Declared({"counter": topic}, (reader,))
    async with (
        Collector({"counter": kit.database.board}, kit.kafka.bootstrap_servers, declared) as collector,
        await psycopg.AsyncConnection.connect(kit.database.superuser, application_name="somebody") as holder,
        running(relay),
    ):
        await kit.append("counter-1", 1)
        await kit.cursor_reaches_head()
        await holder.execute("SELECT FROM relay_cursor FOR UPDATE")
        await kit.append("counter-1", 2)

        await eventually(lambda: relay.status.state is RelayState.WAITING, what="it waits")
        pid = holder.info.backend_pid
        assert f"is locked by pid {pid} (login " in relay.status.detail
        assert "application somebody)" in relay.status.detail

        async def stuck() -> Stage | None:
            board = await collector.look()
            stages = [stage for path in board.paths for stage in path.stages if stage.kind is StageKind.RELAY]
            return next((stage for stage in stages if stage.state is State.STUCK), None)

        shown = await eventually(stuck, what="the board says so")
        assert shown is not None
        assert "waiting: the relay's row" in shown.text
        assert f"pid {pid}" in shown.text
        assert "no database" not in shown.text

        await holder.rollback()
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="it goes on")
        delivered = await kit.eventually_delivered(2)
    assert first_occurrences(delivered) == {"counter-1": [1, 2]}
