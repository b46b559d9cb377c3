"""The commands for parked streams, as operators type them: programs on a real store, with streams that a consumer parked."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from chassis.consumer import NotDiscarded, discard, handler_for, redrive, redrive_stream
from chassis.database import Connection
from chassis.definition import Feed
from chassis.events import RecordedEvent
from chassis.record import to_record
from chassis.replay.throwaway import compare_with_rebuild
from chassis.topics import Topic
from infra.local.home import REPOSITORY
from infra.testing import SERVICE_ROLE, DatabaseUrls, KafkaServer
from order_service.app import consumers
from schemas.events.inventory import ReservedLine, StockReserved, reservation_stream
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.order_room import open_room, recorded
from tests.integration.rebuild_kit import Totals, totals
from tests.integration.store_kit import REGISTRY, running
from tests.support import eventually

WHY: dict[str, Any] = {"reason": "cut off by the old gateway, ticket 7", "by": "ada"}


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def run(
    kit: ConsumerKit, *arguments: str, stdin: str = "", poison: str = "", **settings: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program; its handler fails on the numbers in `poison`."""
    given = {
        "PARKED_DATABASE_URL": kit.database.service,
        "PARKED_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",  # it needs none
        "PARKED_CONSUMER": kit.name,
        "PARKED_TOPIC": kit.topic.name,
        "PARKED_POISON": poison,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.parked_process", *arguments),
        env=os.environ | given | settings,
        cwd=REPOSITORY,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def command(kit: ConsumerKit, *arguments: str, **options: str) -> tuple[int, str, str]:
    """`parked <arguments>`."""
    return await run(kit, "parked", *arguments, **options)


async def commands(kit: ConsumerKit, *several: Sequence[str]) -> list[tuple[int, str, str]]:
    """`parked <arguments>` several times, in one process."""
    code, out, err = await run(kit, stdin=json.dumps([["parked", *one] for one in several]))
    assert code == 0, err
    return [(one[0], one[1], one[2]) for one in json.loads(out)]


async def park_bad(kit: ConsumerKit) -> None:
    """The stream `bad` stops at its second event, which has the number 13; `good` flows."""
    kit.recorder.poison = {13}
    await kit.publish("bad", 1)
    await kit.publish("bad", 2, n=13)
    await kit.publish("bad", 3)
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1], "good": [1]})
        await kit.eventually_parked(2)
    kit.recorder.poison = set()


async def everything(kit: ConsumerKit) -> list[Any]:
    """All that a redrive or a discard could change."""
    return [
        await kit.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in (
            "parked_events",
            "discarded_events",
            "applied",
            "events",
            "consumer_streams",
            "consumer_positions",
        )
    ]


async def test_the_list_says_what_is_parked_and_why_and_nothing_of_what_the_events_hold(
    kit: ConsumerKit,
) -> None:
    await park_bad(kit)
    key, value, headers = kit.record("secret", 1, n=4711, ce_type=None)
    await kit.send((key, value, headers))
    async with running(kit.consumer()):
        await kit.eventually_parked(3)

    (code, out, _), (_, table, _) = await commands(kit, ["list", "--json"], ["list"])

    assert code == 0
    bad, secret = json.loads(out)
    assert bad["age"] >= 0
    assert bad | {"age": 0, "parked_at": ""} == {
        "service": "counting",
        "consumer": kit.name,
        "stream": "bad",
        "events": 2,
        "parked_at": "",
        "age": 0,
        "event_type": "Counted",
        "version": 2,
        "position": 2,
        "topic": kit.topic.name,
        "partition": 0,
        "offset": 1,
        "error_class": "KeyError",
        "error": "'carrier of {13}'",
        "attempts": 3,
        "note": "",
    }
    assert (secret["version"], secret["error_class"]) == (None, "MalformedRecord")
    assert "4711" not in out
    for word in ("bad", kit.name, "Counted (2)", "KeyError: 'carrier of {13}'", "unreadable"):
        assert word in table
    assert "4711" not in table


async def test_a_stream_is_tried_in_vain_then_mended_and_redriven_in_its_order(kit: ConsumerKit) -> None:
    await park_bad(kit)
    before = await everything(kit)

    code, out, _ = await command(kit, "redrive", "bad", "--dry-run", poison="13")
    assert code == 1
    assert "bad: 0 events would be applied, the next one would fail again: KeyError" in out
    assert "; 2 left parked" in out
    assert await everything(kit) == before

    code, out, _ = await command(kit, "redrive", "bad", poison="13")
    assert code == 1
    assert "bad: 0 events applied, the next one failed again: KeyError" in out
    assert (await kit.parked())[0] == ("bad", 2, "KeyError", 4)

    before = await everything(kit)
    code, out, _ = await command(kit, "redrive", "--all", "--dry-run", "--json", poison="3")
    (halfway,) = json.loads(out)
    assert (code, halfway["applied"], halfway["left"]) == (1, 1, 1)
    assert "carrier of {3}" in halfway["error"]
    code, out, _ = await command(kit, "redrive", "bad", "--dry-run")
    assert (code, out) == (0, f"{kit.name}: bad: 2 events would be applied, the stream would flow again\n")
    assert await everything(kit) == before

    code, out, _ = await command(kit, "redrive", "--all", "--json")
    assert code == 0
    assert json.loads(out) == [
        {"consumer": kit.name, "dry_run": False, "stream_id": "bad", "applied": 2, "left": 0, "error": None}
    ]
    await kit.publish("bad", 4)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 5})
    assert await kit.applied() == {"bad": [1, 2, 3, 4], "good": [1]}
    assert (await kit.echoed())["bad"] == [1, 13, 3, 4]
    listed, redriven = await commands(kit, ["list"], ["redrive", "--all"])
    assert listed == (0, "counting-service: nothing is parked\n", "")
    assert redriven == (0, "counting-service: nothing to redrive\n", "")


async def test_the_live_consumer_and_a_redrive_take_turns(kit: ConsumerKit) -> None:
    """The position row of the partition: while one works on it the other waits, and then looks at what is parked."""
    await park_bad(kit)
    kit.recorder.hold()
    await kit.publish("good", 2)
    async with running(kit.consumer()):
        await kit.recorder.entered.wait()
        under_way = asyncio.create_task(command(kit, "redrive", "bad"))
        await eventually(kit.somebody_waits_for_a_lock, 15.0, "the redrive waits for the consumer")
        await kit.publish("bad", 4)
        kit.recorder.go_on.set()
        code, _, _ = await under_way
        await kit.eventually_committed({0: 6})
    assert code == 0
    assert await kit.parked() == []
    assert await kit.applied() == {"bad": [1, 2, 3, 4], "good": [1, 2]}


async def test_whoever_appends_to_the_stream_during_a_redrive_is_heeded(kit: ConsumerKit) -> None:
    """A command was faster: the parked event is decided once more, on what the command left."""
    await park_bad(kit)
    kit.recorder.hold()
    redriving = asyncio.create_task(redrive(kit.consumer(), "bad"))
    await kit.recorder.entered.wait()
    await kit.append("echo-bad", 99)
    kit.recorder.go_on.set()

    (redriven,) = await redriving

    assert (redriven.applied, redriven.left) == (2, 0)
    assert (await kit.echoed())["bad"] == [1, 99, 13, 3]


async def test_what_is_asked_for_must_exist(kit: ConsumerKit) -> None:
    await park_bad(kit)
    before = await everything(kit)
    ours = ["--consumer", kit.name]

    refusals = {
        ("redrive", "worse"): (1, "worse is not parked; parked are: bad"),
        ("redrive", "--all", "--consumer", "saga"): (1, f"no consumer 'saga'; there are: {kit.name}"),
        ("redrive",): (2, "name one stream, or say --all"),
        ("redrive", "bad", "--all"): (2, "name one stream, or say --all"),
        ("discard", "worse", *ours, "--reason", "why"): (1, "worse is not parked; parked are: bad"),
        ("discard", "bad", *ours, "--reason", " "): (2, "--reason: say why the record can be done without"),
        ("discard", "bad", *ours, "--reason", "why", "--version", "1"): (
            1,
            "nothing discarded: the record says itself that it is version 2: leave --version away",
        ),
    }
    *ended, (code, _, err) = await commands(kit, *refusals, ["discard", "bad", *ours])
    assert ended == [(code, "", f"counting-service: {line}\n") for code, line in refusals.values()]
    assert code == 2
    assert "--reason" in err
    assert await everything(kit) == before


async def test_without_a_database_one_line_says_so(kit: ConsumerKit) -> None:
    code, out, err = await command(kit, "list", PARKED_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("counting-service: Postgres: ")


async def test_what_waits_for_the_deployment_is_no_failure_of_the_event(kit: ConsumerKit) -> None:
    await park_bad(kit)
    await kit.owner("ALTER TABLE applied RENAME TO not_there_yet")
    before = await kit.parked()

    code, _, err = await command(kit, "redrive", "bad")

    assert code == 1
    assert 'bad: UndefinedTable relation "applied" does not exist' in err
    assert "say the same again" in err
    assert await kit.parked() == before


async def test_streams_of_consumers_that_this_program_does_not_have_are_listed_and_left_alone(
    kit: ConsumerKit,
) -> None:
    """A copy that is being built, a consumer that was renamed: nobody should believe that nothing waits."""
    await park_bad(kit)
    await kit.fetch("UPDATE parked_events SET consumer = consumer || '.next' WHERE version = 2 RETURNING 1")
    await kit.fetch("UPDATE parked_events SET consumer = 'renamed' WHERE version = 3 RETURNING 1")

    (_, out, _), (_, said, _) = await commands(kit, ["list", "--json"], ["redrive", "--all"])

    notes = {row["consumer"]: row["note"] for row in json.loads(out)}
    assert notes[f"{kit.name}.next"].startswith("the copy of a read model that is being built")
    assert notes["renamed"].startswith("this program has no such consumer")
    assert said == "counting-service: nothing to redrive\n"


async def unreadable(kit: ConsumerKit, version: int, **headers: Any) -> None:
    """An event of `bad` that lost a header on its way."""
    await kit.send(kit.record("bad", version, n=version, millrace_position=None, **headers))


async def test_a_record_that_cannot_be_read_is_discarded_and_its_stream_redriven_and_flows(
    kit: ConsumerKit,
) -> None:
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    await kit.publish("bad", 3)
    async with running(kit.consumer()):
        await kit.eventually_parked(2)
    ours = ["--consumer", kit.name]
    assert (await command(kit, "redrive", "bad"))[0] == 1

    code, out, _ = await command(kit, "discard", "bad", *ours, "--reason", WHY["reason"], "--by", WHY["by"])

    assert code == 0
    assert out.splitlines() == [
        f"discarded for {kit.name}: bad: unreadable, {kit.topic.name} partition 0 offset 1; the record and the reason"
        " are kept in discarded_events",
        f"version 2 of the stream counts as seen: {kit.name} will never apply it, also when it is sent again",
        "1 event of the stream still parked: `parked redrive bad`",
    ]
    ((record, *who),) = await kit.fetch(
        "SELECT record_value, reason, discarded_by, database_role, version, error_class FROM discarded_events"
    )
    assert json.loads(record)["n"] == 2
    assert who == [WHY["reason"], WHY["by"], SERVICE_ROLE, 2, "MalformedRecord"]
    assert (await command(kit, "redrive", "bad"))[0] == 0
    await kit.publish("bad", 2)  # the relay sends the real one again: it is not applied behind version 3
    await kit.publish("bad", 4)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 5})
    assert await kit.applied() == {"bad": [1, 3, 4]}
    assert await kit.parked() == []


@pytest.mark.parametrize(
    ("headers", "said", "next_version"),
    [
        ({}, None, 3),
        ({"millrace_version": None}, 2, 3),
        ({"millrace_version": None}, 0, 2),
        ({"millrace_version": b"7"}, 0, 2),  # believed, it would have the versions before it dropped
    ],
    ids=[
        "it says its version",
        "somebody knows its version",
        "it is no event",
        "it says a version that can't be",
    ],
)
async def test_a_stream_flows_on_behind_its_last_record_when_that_is_discarded(
    kit: ConsumerKit, headers: dict[str, Any], said: int | None, next_version: int
) -> None:
    """Neither a gap that would stop the partition, nor an event that is taken for a duplicate."""
    await kit.publish("bad", 1)
    await unreadable(kit, 2, **headers)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
        if said is not None:
            with pytest.raises(NotDiscarded, match="add --version 2 when it was the stream's next event"):
                await discard(consumer, "bad", **WHY)
            with pytest.raises(NotDiscarded, match="the record can only be version 2"):
                await discard(consumer, "bad", version=3, **WHY)
            assert len(await kit.parked()) == 1

        gone = await discard(consumer, "bad", version=said, **WHY)

        assert (gone.version, gone.left) == (next_version - 1 if next_version > 2 else None, 0)
        await kit.publish("bad", next_version)
        await kit.effects({"bad": [1, next_version]})


async def test_a_discard_waits_for_the_batch_that_parks_behind_the_record(kit: ConsumerKit) -> None:
    """Otherwise it would say that the stream flows while an event is about to be parked behind nothing."""
    kit.recorder.poison = {13}
    await kit.publish("bad", 1, n=13)
    async with running(kit.consumer()):
        await kit.eventually_parked(1)
    kit.recorder.poison = set()
    kit.recorder.hold()
    await kit.publish("good", 1)
    await kit.publish("bad", 2)  # in the same batch
    consumer = kit.consumer()
    async with running(consumer):
        await kit.recorder.entered.wait()
        discarding = asyncio.create_task(discard(consumer, "bad", **WHY))
        await eventually(kit.somebody_waits_for_a_lock, what="the discard waits for the consumer")
        kit.recorder.go_on.set()
        gone = await discarding
    assert (gone.version, gone.left) == (1, 1)
    redriven = await redrive_stream(consumer, "bad")
    assert (redriven.applied, redriven.left) == (1, 0)


async def test_an_audit_expects_no_read_model_to_have_what_was_discarded(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    class FailsOnTwo(Totals):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            if any(one.version == 2 for one in events):
                raise KeyError("carrier")
            await super().apply(connection, events)

    model = FailsOnTwo()
    async with open_consumer_kit(database, kafka, model) as kit:
        await kit.publish("counter-1", 1, 2, 3)
        consumer = kit.consumer(handler=handler_for(model), store=None)
        async with running(consumer):
            await kit.eventually_parked(2)
        await discard(consumer, "counter-1", **WHY)
        await redrive_stream(consumer, "counter-1")
        assert await totals(kit) == {"counter-1": (4, 2)}

        feed = Feed(model, REGISTRY, (kit.topic,), consumer=kit.name)
        comparison = await compare_with_rebuild(feed, database.service, kafka.bootstrap_servers)

        assert comparison.equal


async def test_what_was_discarded_can_be_neither_changed_nor_removed_nor_dated_back(kit: ConsumerKit) -> None:
    await park_bad(kit)
    await discard(kit.consumer(), "bad", **WHY)
    before = await kit.fetch("SELECT t::text FROM discarded_events t")
    for statement in (
        "UPDATE discarded_events SET reason = 'none'",
        "DELETE FROM discarded_events",
        "TRUNCATE discarded_events",
        "INSERT INTO discarded_events (discarded_at) VALUES (now())",
        "INSERT INTO discarded_events (database_role) VALUES ('somebody else')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            await kit.fetch(statement)
    for statement in ("UPDATE discarded_events SET reason = 'none'", "DELETE FROM discarded_events"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            await kit.owner(statement)
    assert await kit.fetch("SELECT t::text FROM discarded_events t") == before


async def test_the_order_service_redrives_with_its_own_handlers(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """An answer to an order that nobody placed is parked for the saga, and is what the catalogue passes over."""
    order_id, saga = uuid4(), "order-service.saga"
    async with open_room(database) as room:
        topic = Topic(await kafka.create_topic(partitions=1), 1)
        answer = StockReserved(order_id=order_id, lines=(ReservedLine(sku="TEA-1", quantity=2),))
        stream = reservation_stream(order_id)
        key, value, headers = to_record(recorded(stream, answer), uuid4(), 1, "/inventory-service")
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(topic.name, value, key, headers=headers)
        heard = consumers(room.pool, room.store, kafka.bootstrap_servers, topic)
        async with running(*heard):
            await eventually(lambda: heard[0].counters.parked == 1, 20.0, "the answer is parked")

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "order_service", "parked", "redrive", stream, "--json"),
            env=os.environ
            | {"ORDER_DATABASE_URL": database.service, "ORDER_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
            cwd=REPOSITORY,
            stdout=PIPE,
        )
        out, _ = await process.communicate()

        assert process.returncode == 1
        (redriven,) = json.loads(out)
        assert (redriven["consumer"], redriven["applied"], redriven["left"]) == (saga, 0, 1)
        assert redriven["error"].startswith("CommandRefused: ")
