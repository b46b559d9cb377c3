"""The commands for parked streams, as operators type them: programs on a real store, with streams that a
consumer parked."""

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

from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import Consumer, NotDiscarded, discard, handler_for, redrive, redrive_stream
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.rebuild.temporary_comparison import compare_with_rebuild
from millrace.testing.databases import LOGIN
from schemas.events.inventory import ReservedLine, StockReserved, reservation_stream
from schemas.topics import INVENTORY
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.order_room import open_room
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
        "PARKED_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",  # it needs none, but for what asks_kafka is for
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


def asks_kafka(kit: ConsumerKit) -> dict[str, str]:
    """For a discard that searches the topic for the true event."""
    return {"PARKED_KAFKA_BOOTSTRAP_SERVERS": kit.kafka.bootstrap_servers}


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


async def test_a_stream_is_tried_in_vain_then_corrected_and_redriven_in_its_order(kit: ConsumerKit) -> None:
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
        {
            "consumer": kit.name,
            "dry_run": False,
            "stream_id": "bad",
            "applied": 2,
            "left": 0,
            "error": None,
            "dropped": 0,
        }
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
    """The position row of the partition: while one works on it the other waits, and then looks at what is
    parked."""
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
    code, out, err = await command(
        kit, "list", PARKED_DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/none"
    )

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("counting-service: Postgres: ")


async def test_what_waits_for_the_deployment_is_no_failure_of_the_event(kit: ConsumerKit) -> None:
    await park_bad(kit)
    await kit.owner("ALTER TABLE applied RENAME TO not_there_yet")
    before = await kit.parked()

    code, _, err = await command(kit, "redrive", "bad")

    assert code == 1
    assert 'bad: UndefinedTable relation "applied" does not exist' in err
    assert "run the command again" in err
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

    why = ["--reason", WHY["reason"], "--by", WHY["by"]]
    code, out, _ = await command(kit, "discard", "bad", *ours, *why, **asks_kafka(kit))

    assert code == 0
    assert out.splitlines() == [
        f"discarded for {kit.name}: bad: unreadable, {kit.topic.name} partition 0 offset 1; the record and"
        f" the reason"
        " are kept in discarded_events",
        f"{kit.topic.name} has no readable version 2 of bad",
        f"version 2 of the stream counts as seen: {kit.name} will never apply it, even if it is sent again",
        "1 event of the stream still parked: `parked redrive bad`",
    ]
    ((record, *who),) = await kit.fetch(
        "SELECT record_value, reason, discarded_by, database_role, version, error_class FROM discarded_events"
    )
    assert json.loads(record)["n"] == 2
    assert who == [WHY["reason"], WHY["by"], LOGIN, 2, "MalformedRecord"]
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
        ({}, 2, 3),
        ({}, 0, 2),  # the operator's word wins: the true version 2 is applied when it comes
        ({"millrace_version": None}, 2, 3),
        ({"millrace_version": None}, 0, 2),
        ({"millrace_version": b"7"}, 0, 2),  # believed, it would have the versions before it dropped
    ],
    ids=[
        "somebody confirms the version that it says",
        "somebody knows that it is no event, whatever it says",
        "somebody knows its version",
        "it is no event",
        "it says a version that can't be",
    ],
)
async def test_a_stream_flows_on_behind_its_last_record_when_that_is_discarded(
    kit: ConsumerKit, headers: dict[str, Any], said: int, next_version: int
) -> None:
    """Neither a gap that would stop the partition, nor an event that is taken for a duplicate."""
    await kit.publish("bad", 1)
    await unreadable(kit, 2, **headers)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
        with pytest.raises(NotDiscarded, match="add --version 2 when it was the stream's next event"):
            await discard(consumer, "bad", **WHY)
        with pytest.raises(NotDiscarded, match="the record can only be version 2"):
            await discard(consumer, "bad", version=3, **WHY)
        assert len(await kit.parked()) == 1

        gone = await discard(consumer, "bad", version=said, **WHY)

        assert (gone.version, gone.left) == (next_version - 1 if next_version > 2 else None, 0)
        await kit.publish("bad", next_version)
        await kit.effects({"bad": [1, next_version]})


async def test_a_record_that_is_no_event_holds_up_no_stream_whose_events_all_came(kit: ConsumerKit) -> None:
    """Anybody who may write the topic could stop any stream otherwise."""
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    await kit.publish("bad", 2, 3)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 3]})
        await unreadable(kit, 4)
        await kit.eventually_parked(2)
        await kit.publish("bad", 4)
        await kit.effects({"bad": [1, 2, 3, 4]})
    aside = f"unparsable:{kit.topic.name}/0"
    assert await kit.parked() == [(aside, None, "MalformedRecord", 1)] * 2
    ours = ["--consumer", kit.name, "--reason", "nobody's"]

    asked, *ended = await commands(
        kit,
        ["discard", aside, *ours, "--version", "4"],
        ["discard", aside, *ours],
        ["discard", aside, *ours, "--version", "0"],
    )

    assert asked[0] == 1
    assert "leave --version away" in asked[2]
    for code, out, _ in ended:
        assert code == 0
        assert "the record counts as no event: the stream's version stays as it is" in out
    assert await kit.parked() == []
    await kit.publish("bad", 5)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 3, 4, 5]})


async def test_a_true_event_that_is_still_to_come_is_not_discarded_with_the_record_that_looks_like_it(
    kit: ConsumerKit,
) -> None:
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    async with running(kit.consumer()):
        await kit.eventually_parked(1)
    await kit.send(kit.record("bad", 2, n=2, millrace_epoch=str(uuid4()).encode()))  # a stranger's
    await kit.publish("bad", 2, 3)

    code, out, _ = await command(
        kit,
        *("discard", "bad", "--consumer", kit.name, "--reason", WHY["reason"], "--version", "2"),
        **asks_kafka(kit),
    )

    assert code == 0
    assert (
        f"{kit.topic.name} has the true version 2 of bad, partition 0 offset 3: {kit.name} applies it when"
        f" it comes to it" in out
    )
    assert "the record counts as no event" in out
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 3]})


@pytest.mark.parametrize("said", [None, 2, 0])
async def test_a_true_event_that_came_too_late_takes_the_place_of_the_record(
    kit: ConsumerKit, said: int | None
) -> None:
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    await kit.publish("bad", 3, 2)  # the relay was made to send version 2 again
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 4})
    assert [row[:2] for row in await kit.parked()] == [("bad", None), ("bad", 3)]

    gone = await discard(consumer, "bad", version=said, **WHY)

    assert (gone.version, gone.asked, gone.in_place, gone.left) == (None, 2, True, 2)
    assert gone.found is not None
    assert gone.found.offset == 3
    (redriven,) = await redrive(consumer, "bad")
    assert (redriven.applied, redriven.left) == (2, 0)
    await kit.publish("bad", 4)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 3, 4]})


async def test_nothing_is_discarded_while_nobody_can_say_whether_the_true_event_is_in_the_topic(
    kit: ConsumerKit,
) -> None:
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    async with running(kit.consumer()):
        await kit.eventually_parked(1)
    before = await everything(kit)
    cut_off = Consumer(
        name=kit.name,
        sources={kit.topic: REGISTRY},
        handler=kit.recorder,
        pool=kit.pool,
        store=kit.store,
        bootstrap_servers="127.0.0.1:1",
    )

    with pytest.raises(NotDiscarded, match="run the command again when Kafka answers"):
        await discard(cut_off, "bad", version=2, **WHY)

    assert await everything(kit) == before
    assert (await discard(cut_off, "bad", version=0, **WHY)).version is None  # which needs no answer


async def junk(kit: ConsumerKit, stream_id: str) -> None:
    """Somebody else's bytes under the stream's key."""
    await kit.send((stream_id.encode(), b"\0junk", []))


async def forged(kit: ConsumerKit, stream_id: str, version: int) -> None:
    """Another event with the version of one that was sent."""
    await kit.send(kit.record(stream_id, version, n=99, ce_id=str(uuid4()).encode()))


async def test_what_was_applied_is_not_applied_again_because_of_a_conflict_behind_an_unreadable_record(
    kit: ConsumerKit,
) -> None:
    """Version 3 is none that is missing: the stream is at version 4, and the record in front of the conflict
    is none of it."""
    await kit.publish("bad", 1, 2, 3, 4)
    await junk(kit, "bad")
    await forged(kit, "bad", 4)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"bad": [1, 2, 3, 4]})
        await kit.eventually_parked(2)
        with pytest.raises(NotDiscarded, match="add --version 5 when it was the stream's next event"):
            await discard(consumer, "bad", **WHY)

        gone = await discard(consumer, "bad", version=0, **WHY)

        assert (gone.version, gone.in_place, gone.left) == (None, False, 1)
        for _ in range(2):  # the second one must find what the first one left as it was
            (redriven,) = await redrive(consumer, "bad")
            assert (redriven.applied, redriven.left) == (0, 1)
            assert "NeverApplied" in str(redriven.error)
        assert [row[:3] for row in await kit.parked()] == [("bad", 4, "StreamConflict")]
        assert (await discard(consumer, "bad", **WHY)).version is None
        await kit.publish("bad", 5)
        await kit.effects({"bad": [1, 2, 3, 4, 5]})


async def test_a_foreign_record_stays_out_however_often_it_is_redriven(kit: ConsumerKit) -> None:
    await kit.publish("bad", 1)
    await kit.send(kit.record("bad", 2, n=2, millrace_epoch=str(uuid4()).encode()))
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)

    for _ in range(2):
        (redriven,) = await redrive(consumer)
        assert (redriven.applied, redriven.left) == (0, 1)

    assert await kit.applied() == {"bad": [1]}
    assert (await kit.parked())[0][2] == "ForeignRecord"


@pytest.mark.parametrize("said", [None, 2])
async def test_an_event_that_was_applied_takes_no_place_of_one_of_two_records(
    kit: ConsumerKit, said: int | None
) -> None:
    """Two can't be read and one is missing: which it is follows from what was seen before them."""
    await kit.publish("bad", 1, 2)
    await unreadable(kit, 2)  # its header is a lie
    await junk(kit, "bad")
    await kit.publish("bad", 4)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"bad": [1, 2]})
        await kit.eventually_parked(3)
    if said is not None:
        with pytest.raises(NotDiscarded, match="it can only be version 3"):
            await discard(consumer, "bad", version=said, **WHY)

    first = await discard(consumer, "bad", **WHY)
    second = await discard(consumer, "bad", **WHY)

    assert (first.version, second.version) == (3, None)
    assert (first.in_place, second.in_place) == (False, False)
    assert (await redrive(consumer, "bad"))[0].applied == 1
    await kit.publish("bad", 5)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 4, 5]})


async def test_one_true_event_takes_the_place_of_one_record_only(kit: ConsumerKit) -> None:
    """The operator names the wrong one of two: version 3 is applied once all the same."""
    await kit.publish("bad", 1)
    await junk(kit, "bad")
    await unreadable(kit, 3)
    await kit.publish("bad", 4, 2, 3)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 6})
    assert (await discard(consumer, "bad", version=3, **WHY)).in_place
    (redriven,) = await redrive(consumer, "bad")
    assert (redriven.applied, redriven.left) == (1, 2)

    second = await discard(consumer, "bad", **WHY)

    assert (second.version, second.in_place) == (None, False)
    await redrive(consumer, "bad")
    assert await kit.applied() == {"bad": [1, 3, 4]}


async def test_a_redrive_drops_an_event_whose_version_was_applied_and_says_so(kit: ConsumerKit) -> None:
    """However it came to be parked: as an earlier release put it in the place of a record, for instance."""
    await kit.publish("bad", 1, 2)
    await junk(kit, "bad")
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
    _, value, headers = kit.record("bad", 2, n=2)
    await kit.owner(
        "UPDATE parked_events SET version = 2, record_value = %s, record_headers = %s::json",
        value,
        json.dumps([[name, raw.decode()] for name, raw in headers]),
    )
    (tried,) = await redrive(consumer, "bad", dry_run=True)
    assert (tried.applied, tried.dropped, tried.left) == (0, 1, 0)

    code, out, _ = await command(kit, "redrive", "bad")

    assert code == 0
    assert "bad: 0 events applied, 1 dropped because their versions were applied before" in out
    assert await kit.applied() == {"bad": [1, 2]}
    assert await kit.fetch("SELECT reason, version FROM discarded_events") == [
        ("version 2 of bad was applied or discarded before", None)
    ]


async def test_an_event_that_comes_with_the_version_of_a_discarded_record_is_parked_and_can_be_applied(
    kit: ConsumerKit,
) -> None:
    """The record was somebody else's, and the stream did not exist yet: its first event must not vanish."""
    await junk(kit, "bad")
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
        code, out, _ = await command(
            kit,
            *("discard", "bad", "--consumer", kit.name, "--reason", WHY["reason"], "--version", "1"),
            **asks_kafka(kit),
        )
        assert code == 0
        assert (
            f"if an event with that version comes next, {kit.name} parks it, and `parked redrive` applies it"
            in out
        )
        await kit.publish("bad", 1, 2)
        await kit.eventually_parked(2)
        ((error,),) = await kit.fetch("SELECT error FROM parked_events WHERE version = 1")
        assert "a redrive applies this event" in error
        kit.recorder.poison = {1}
        assert (await redrive(consumer, "bad"))[0].applied == 0  # its own fault, for now
        kit.recorder.poison = set()
        assert (await redrive(consumer, "bad", dry_run=True))[0].applied == 2

        (redriven,) = await redrive(consumer, "bad")

        assert (redriven.applied, redriven.left) == (2, 0)
        await kit.publish("bad", 1, 3)
        await kit.effects({"bad": [1, 2, 3]})
    assert await kit.parked() == []


async def test_a_version_that_a_discarded_record_covered_is_applied_once(kit: ConsumerKit) -> None:
    """Two claim it: the first that is redriven is the stream's event, the other one contradicts it."""
    await junk(kit, "bad")
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
        await discard(consumer, "bad", version=1, **WHY)
        await kit.publish("bad", 1)
        await forged(kit, "bad", 1)
        await kit.eventually_parked(2)

        (redriven,) = await redrive(consumer, "bad")

        assert (redriven.applied, redriven.left) == (1, 1)
        assert "contradicts what was seen" in str(redriven.error)
        await forged(kit, "bad", 1)
        await kit.eventually_parked(2)
        assert (await redrive(consumer, "bad"))[0].applied == 0
    assert await kit.applied() == {"bad": [1]}


async def test_a_read_model_is_what_its_events_give_after_a_discard_and_a_redrive(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    model = Totals()
    async with open_consumer_kit(database, kafka, model) as kit:
        consumer = kit.consumer(handler=handler_for(model), store=None)
        await kit.publish("counter-1", 1, 2, 3, 4)
        await junk(kit, "counter-1")
        await forged(kit, "counter-1", 4)
        await junk(kit, "counter-2")
        async with running(consumer):
            await kit.eventually_parked(3)
            for stream, version in (("counter-1", 0), ("counter-1", None), ("counter-2", 1)):
                await redrive(consumer, stream)
                await discard(consumer, stream, version=version, **WHY)
            await kit.publish("counter-2", 1, 2)
            await kit.eventually_parked(2)
            assert (await redrive(consumer, "counter-2"))[0].applied == 2

        assert await totals(kit) == {"counter-1": (10, 4), "counter-2": (3, 2)}
        feed = Feed(model, REGISTRY, {kit.topic: REGISTRY}, consumer=kit.name)
        comparison = await compare_with_rebuild(feed, database.service, kafka.bootstrap_servers)
        assert comparison.equal


async def correct_position(kit: ConsumerKit, position: int) -> None:
    """What is parked first can be read from now on, as after the deployment of a program that can."""
    ((id_, headers),) = await kit.fetch("SELECT id, record_headers FROM parked_events ORDER BY id LIMIT 1")
    corrected = json.dumps([*headers, ["millrace_position", str(position)]])
    await kit.owner("UPDATE parked_events SET record_headers = %s::json WHERE id = %s", corrected, id_)


async def test_a_redriven_record_that_could_not_be_read_counts_with_its_version(kit: ConsumerKit) -> None:
    """Otherwise the next event is a gap, and the same event once more is applied twice."""
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(1)
    await correct_position(kit, 2)
    assert (await redrive(consumer, "bad", dry_run=True))[0].applied == 1

    (redriven,) = await redrive(consumer, "bad")

    assert (redriven.applied, redriven.left) == (1, 0)
    await kit.publish("bad", 2, 3)
    async with running(kit.consumer()):
        await kit.effects({"bad": [1, 2, 3]})
    assert await kit.parked() == []


async def test_several_records_that_could_not_be_read_are_redriven_in_their_order(kit: ConsumerKit) -> None:
    await kit.publish("bad", 1)
    for version in (2, 3):
        await unreadable(kit, version)
    await kit.publish("bad", 4)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_parked(3)
    await correct_position(kit, 2)
    assert (await redrive(consumer, "bad"))[0].applied == 1
    await correct_position(kit, 3)
    assert (await redrive(consumer, "bad", dry_run=True))[0].applied == 2
    assert (await redrive(consumer, "bad"))[0].left == 0
    assert await kit.applied() == {"bad": [1, 2, 3, 4]}


async def test_a_record_that_can_be_read_at_last_is_not_applied_beside_the_event_that_came_meanwhile(
    kit: ConsumerKit,
) -> None:
    await kit.publish("bad", 1)
    await unreadable(kit, 2)
    await kit.publish("bad", 2)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"bad": [1, 2]})
        await kit.eventually_parked(1)
    await correct_position(kit, 2)

    (redriven,) = await redrive(consumer, f"unparsable:{kit.topic.name}/0")

    assert (redriven.applied, redriven.left) == (0, 0)
    assert await kit.applied() == {"bad": [1, 2]}
    assert await kit.fetch("SELECT reason FROM discarded_events") == [
        ("version 2 of bad came in another record",)
    ]


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

        feed = Feed(model, REGISTRY, {kit.topic: REGISTRY}, consumer=kit.name)
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
    """An answer to an order that nobody placed is parked for the saga, and is what the catalogue passes
    over."""
    order_id, saga = uuid4(), "order-service.saga"
    async with open_room(database, kafka=kafka.bootstrap_servers) as room:
        answer = StockReserved(order_id=order_id, lines=(ReservedLine(sku="TEA-1", quantity=2),))
        stream = reservation_stream(order_id)
        await room.app.writers[INVENTORY].publish(stream, answer)
        counters = room.app.consumers[saga].counters
        await eventually(lambda: counters.parked == 1, 20.0, "the answer is parked")

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
