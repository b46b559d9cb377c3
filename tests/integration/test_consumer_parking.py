"""A poisonous event parks its stream; everything else flows; a redrive goes on where the stream stopped."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import parked, redrive
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def test_an_event_whose_handler_raises_parks_its_stream_and_others_of_the_partition_flow(
    kit: ConsumerKit,
) -> None:
    kit.recorder.poison = {13}
    await kit.publish("good", 1, 2)
    await kit.publish("bad", 1)
    await kit.publish("bad", 2, n=13)
    await kit.publish("good", 3)
    await kit.publish("bad", 3)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 6})
        await kit.publish("good", 4)
        await kit.publish("bad", 4)
        await kit.effects({"good": [1, 2, 3, 4], "bad": [1]})
        assert await kit.eventually_parked(3) == [
            ("bad", 2, "KeyError", 3),
            ("bad", 3, "StreamParked", 0),
            ("bad", 4, "StreamParked", 0),
        ]
    (stream,) = await parked(consumer)
    assert (stream.stream_id, stream.events, stream.error_class) == ("bad", 3, "KeyError")
    assert "carrier of {13}" in stream.error


async def test_a_redrive_sends_a_stream_through_the_handler_again_in_order_and_it_flows_on(
    kit: ConsumerKit,
) -> None:
    kit.recorder.poison = {13, 14}
    await kit.publish("bad", 1)
    await kit.publish("bad", 2, n=13)
    await kit.publish("bad", 3)
    await kit.publish("worse", 1, n=14)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(3)
        (dry, _) = await redrive(consumer, dry_run=True)
        assert (dry.stream_id, dry.applied, dry.left) == ("bad", 0, 2)

        (in_vain,) = await redrive(consumer, "bad")
        assert (in_vain.applied, in_vain.left) == (0, 2)
        assert "carrier of {13}" in (in_vain.error or "")
        assert (await kit.parked())[0] == ("bad", 2, "KeyError", 4)
        assert await kit.applied() == {"bad": [1]}

        kit.recorder.poison = {14}
        fixed, worse = await redrive(consumer)
        assert (fixed.stream_id, fixed.applied, fixed.left, fixed.error) == ("bad", 2, 0, None)
        assert (worse.applied, worse.left) == (0, 1)
        await kit.publish("bad", 4)
        await eventually(lambda: consumer.counters.applied >= 2)
    assert await kit.applied() == {"bad": [1, 2, 3, 4]}
    assert await kit.echoed() == {"bad": [1, 13, 3, 4]}
    with pytest.raises(LookupError, match="no parked stream bad"):
        await redrive(consumer, "bad")


async def test_an_event_that_arrives_during_a_redrive_of_its_stream_waits_for_it(kit: ConsumerKit) -> None:
    """Otherwise it would be parked behind an event that is parked no more, and stay there."""
    kit.recorder.poison = {13}
    await kit.publish("bad", 1, n=13)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
        kit.recorder.poison = set()
        kit.recorder.hold()
        under_way = asyncio.create_task(redrive(consumer, "bad"))
        await kit.recorder.entered.wait()
        await kit.publish("bad", 2)
        await eventually(kit.somebody_waits_for_a_lock, what="the consumer waits for the redrive")
        kit.recorder.go_on.set()
        await under_way
        await kit.eventually_committed({0: 2})
    assert await kit.parked() == []
    assert await kit.applied() == {"bad": [1, 2]}


UNREADABLE: dict[str, dict[str, Any]] = {
    "a header that is not UTF-8": {"millrace_metadata": b"\xff\xfe"},
    "no metadata": {"millrace_metadata": None},
    "metadata without a correlation": {"millrace_metadata": b'{"actor":"ann"}'},
    "no version": {"millrace_version": None},
    "no position": {"millrace_position": None},
    "no type": {"ce_type": None},
    "an unreadable epoch": {"millrace_epoch": b"somewhere"},
}


@pytest.mark.parametrize("headers", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_record_that_cannot_be_read_is_parked_under_its_key_and_its_stream_behind_it(
    kit: ConsumerKit, headers: dict[str, Any]
) -> None:
    await kit.publish("bad", 1)
    await kit.send(kit.record("bad", 2, **headers))
    await kit.publish("bad", 3)
    await kit.publish("good", 1, 2)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 5})
    await kit.effects({"bad": [1], "good": [1, 2]})
    first, behind = await kit.parked()
    assert (first[0], first[2]) == ("bad", "MalformedRecord")
    assert behind == ("bad", 3, "StreamParked", 0)
    (again,) = await redrive(consumer, "bad")
    assert (again.applied, again.left) == (0, 2)
    stored = await kit.fetch("SELECT record_headers::text FROM parked_events ORDER BY id LIMIT 1")
    for name, value in headers.items():
        assert (name in stored[0][0]) == (value is not None)


async def test_a_value_that_is_no_event_parks_its_stream(kit: ConsumerKit) -> None:
    key, _, headers = kit.record("bad", 1)
    await kit.send((key, b"not json", headers))
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.effects({"good": [1]})
    assert await kit.parked() == [("bad", 1, "MalformedEvent", 3)]


@pytest.mark.parametrize("key", [None, b"\xff", b"nul\0"], ids=["none", "not UTF-8", "a NUL"])
async def test_a_record_without_a_usable_key_is_parked_by_itself(kit: ConsumerKit, key: Any) -> None:
    await kit.send((key, b"whatever", []))
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.effects({"good": [1]})
    assert await kit.parked() == [(f"unparsable:{kit.topic.name}/0", None, "MalformedRecord", 1)]


LONG_KEY = "".join(Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4_000))
"""Too long for an index row of Postgres, and random, so that it can't be compressed to fit."""


async def test_records_with_a_key_that_no_stream_can_have_park_themselves_and_stop_nothing(
    kit: ConsumerKit,
) -> None:
    await kit.send((LONG_KEY.encode(), b"no event", []))
    await kit.send(kit.record(LONG_KEY, 1))
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.effects({"good": [1]})
    first, second = await kit.parked()
    assert first == (f"unparsable:{kit.topic.name}/0", None, "MalformedRecord", 1)
    assert second == (f"foreign:{kit.topic.name}/0/1", 1, "ForeignRecord", 1)


class OddName(str):
    """A header name that is not UTF-8 on the wire."""

    def encode(self, *_: object) -> bytes:
        return b"caf\xe9"


async def test_a_header_name_that_is_not_utf_8_parks_its_record_and_stops_nobody(kit: ConsumerKit) -> None:
    """aiokafka gives up the whole batch, again and again: its partition would stand still, and all others of
    the member."""
    await kit.publish("good", 1)
    batch = kit.producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1 << 20)
    batch.append(timestamp=None, key=b"bad", value=b"{}", headers=[(OddName("odd"), b"x")])
    await (await kit.producer.send_batch(batch, kit.topic.name, partition=0))
    await kit.publish("good", 2)
    async with running(kit.consumer()):
        await kit.effects({"good": [1, 2]})
    assert await kit.parked() == [("bad", None, "MalformedRecord", 1)]
    ((error,),) = await kit.fetch("SELECT error FROM parked_events")
    assert "header name is not UTF-8" in error


async def test_a_record_that_cannot_even_be_parked_stops_its_partition_and_nothing_else(
    kit: ConsumerKit,
) -> None:
    await kit.owner("ALTER TABLE parked_events ADD CONSTRAINT odd CHECK (stream_id <> 'bad')")
    kit.recorder.poison = {13}
    await kit.publish("bad", 1, n=13)
    await kit.publish("late", 1)
    await kit.publish("good", 1, partition=1)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"good": [1]})
        await eventually(lambda: "can be neither applied nor parked" in consumer.health().detail)
        assert consumer.health().alive
        await kit.publish("good", 2, partition=1)
        await kit.effects({"good": [1, 2]})
        await kit.owner("ALTER TABLE parked_events DROP CONSTRAINT odd")
        await kit.effects({"good": [1, 2], "late": [1]})
        assert await kit.parked() == [("bad", 1, "KeyError", 3)]


async def test_a_type_that_nobody_handles_is_passed_over_without_being_decoded(kit: ConsumerKit) -> None:
    key, _, headers = kit.record("a", 1, ce_type=b"x.Renamed", ce_dataschema=b"x:/Renamed/7")
    await kit.send((key, b"not json", headers))
    await kit.publish("a", 2)
    async with running(kit.consumer()):
        await kit.effects({"a": [2]})
    assert await kit.parked() == []


async def test_a_poisonous_event_leaves_no_trace_of_itself(kit: ConsumerKit) -> None:
    """The handler has written its row and decided its event before it raises: nothing of it may stay."""
    kit.recorder.poison = {13}
    await kit.publish("bad", 1, n=13)
    async with running(kit.consumer()):
        await kit.eventually_parked(1)
    assert await kit.applied() == {}
    assert await kit.echoed() == {}


async def test_a_missing_table_is_the_deployments_fault_and_parks_nothing(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    await kit.owner("ALTER TABLE applied RENAME TO not_there_yet")
    consumer = kit.consumer()
    async with running(consumer):
        await eventually(lambda: "UndefinedTable" in consumer.health().detail)
        await kit.owner("ALTER TABLE not_there_yet RENAME TO applied")
        await kit.effects({"a": [1]})
    assert await kit.parked() == []
