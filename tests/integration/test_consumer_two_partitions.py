"""One stream in two partitions, as while a new generation of a topic is filled: two members, and each event
takes effect once."""

from collections.abc import AsyncIterator, Sequence

import pytest

from infra.testing import DatabaseUrls, KafkaServer
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.events import RecordedEvent
from tests.integration.consumer_kit import ConsumerKit, Recorder, open_consumer_kit
from tests.integration.store_kit import running
from tests.support import eventually


class Rows(Recorder):
    """Writes rows and appends nothing: no version of a stream of its own keeps two batches from the same
    effect."""

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        self.batches.append([(one.stream_id, one.version) for one in batch])
        await unit.connection.cursor().executemany(
            "INSERT INTO applied (stream_id, version, n) VALUES (%s, %s, 0)",
            [(one.stream_id, one.version) for one in batch],
        )
        await self.go_on.wait()


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


@pytest.mark.parametrize("known", [False, True], ids=["a new stream", "a stream that is known"])
async def test_a_stream_that_arrives_in_two_partitions_at_once_takes_effect_once(
    kit: ConsumerKit, *, known: bool
) -> None:
    rows, version = Rows(), 2 if known else 1
    first, second = kit.consumer(handler=rows), kit.consumer(handler=rows)
    async with running(first, second):
        await eventually(
            lambda: len(first.partitions) == len(second.partitions) == 1, what="a partition each"
        )
        if known:
            await kit.publish("a", 1, partition=0)
            await kit.eventually_applied({"a": [1]})
        rows.hold()
        before = len(rows.batches)
        await kit.publish("a", version, partition=0)
        await kit.publish("a", version, partition=1, generation=2)
        await eventually(lambda: len(rows.batches) == before + 2, what="both are at the same event")
        rows.go_on.set()
        await kit.eventually_committed({0: version, 1: 1})
    assert await kit.applied() == {"a": list(range(1, version + 1))}
    assert await kit.parked() == []
