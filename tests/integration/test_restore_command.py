"""`restore` and `store` as operators type them: programs on a real store and a real topic."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest

from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from tests.integration.rebuild_kit import totals
from tests.integration.restore_kit import PERSON, RestoreKit, open_restore_kit
from tests.integration.test_restore import everything, lost_tail, waits_for_a_lock
from tests.support import eventually

Ended = tuple[int, str, str]
MOVED = "UPDATE store_state SET verified_start = verified_start - interval '1 hour', timeline = 77"


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RestoreKit]:
    async with open_restore_kit(database, kafka) as kit:
        yield kit


async def start(kit: RestoreKit, *arguments: str, **settings: str) -> Process:
    """The program. `settings` are without their prefix; an empty one is not set."""
    given = {
        "DATABASE_URL": kit.database.service,
        "MIGRATION_DATABASE_URL": kit.database.migrator,
        "KAFKA_BOOTSTRAP_SERVERS": kit.kafka.bootstrap_servers,
    } | settings
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.restore_process", *arguments),
        env=os.environ
        | {f"COUNTER_{name}": value for name, value in given.items()}
        | {"RESTORE_TOPIC": kit.topic.name},
        cwd=REPOSITORY,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def commands(kit: RestoreKit, *several: Sequence[str], **settings: str) -> list[Ended]:
    """Exit code, stdout and stderr of each, in one process."""
    process = await start(kit, **settings)
    out, err = await process.communicate(json.dumps(several).encode())
    assert process.returncode == 0, err.decode()
    return [(one[0], one[1], one[2]) for one in json.loads(out)]


def assert_refused(ended: Ended, code: int, *said: str) -> None:
    """One line on stderr, which names what is wrong."""
    assert (ended[0], ended[1], len(ended[2].splitlines())) == (code, "", 1), ended
    for text in said:
        assert text in ended[2]


async def test_a_restore_from_the_dry_run_to_the_end(kit: RestoreKit) -> None:
    whole = await lost_tail(kit)
    for n in (5, 1, PERSON):
        await kit.count("a", n)
    await kit.count("d", 1)
    await kit.project_everything()

    dry, status, done, as_json, again = await commands(
        kit,
        ["restore", "--dry-run"],
        ["store", "status"],
        ["restore"],
        ["restore", "--json"],
        ["restore"],
    )

    assert (dry[0], status[0], done[0], again[0]) == (0, 0, 0, 0)
    assert f"3 events of 3 streams would be put back from {kit.topic.name} (positions 3 to 5)" in dry[1]
    assert "Nothing was changed. To do it: millrace restore counter" in dry[1]
    assert "remove them with `millrace replay republish counter --recreate --drop-newer`" in dry[1]
    assert "--drop-newer" not in done[1]
    assert "3 events of 3 streams put back" in done[1]
    for outcome in ("1 appended", "1 already so", "1 refused", "1 kept"):
        assert outcome in done[1]
    assert "refused: Counted (version 4 of counter-a): Counted names no command" in done[1]
    assert "Rebuilt, because they had applied events that moved: totals_v1" in done[1]
    assert "Next: millrace audit --service counter" in done[1]
    assert json.loads(as_json[1])["missing"] == 0
    assert "nothing is missing" in again[1]
    assert (await kit.rows())[:5] == whole
    assert await totals(kit) == {
        "counter-a": (8, 3),  # 1 and 2, and the 5 of the fork
        "counter-b": (3, 2),
        "counter-c": (3, 1),
        "counter-d": (1, 1),
    }


async def test_a_restore_that_was_killed_in_its_repair_changed_nothing(kit: RestoreKit) -> None:
    whole = await lost_tail(kit)
    await kit.count("a", 9)
    before = await everything(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as reader:
        await reader.execute("LOCK TABLE events IN ROW SHARE MODE")
        await reader.execute("LOCK TABLE relay_cursor IN SHARE MODE")  # it gets no further than that
        killed = await start(kit, "restore")
        await eventually(lambda: waits_for_a_lock(kit), 20.0, "the repair in its transaction")
        (second,) = await commands(kit, ["restore"])
        assert_refused(second, 1, "another restore of this store is running")
        killed.send_signal(signal.SIGKILL)
        await killed.communicate()

    assert await everything(kit) == before
    status, done = await commands(kit, ["store", "status"], ["restore"])
    assert status[0] == 1
    assert (
        "commands are refused: the store is being restored: run `millrace restore counter` again" in status[1]
    )
    assert done[0] == 0
    assert (await kit.rows())[:5] == whole


async def test_a_store_that_moved_is_accepted_by_hand(kit: RestoreKit) -> None:
    await kit.owner(MOVED)

    before, as_json, unsaid, accepted, after = await commands(
        kit,
        ["store", "status"],
        ["store", "status", "--json"],
        ["store", "accept"],
        ["store", "accept", "--moved"],
        ["store", "status"],
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",  # neither needs one
    )

    assert before[0] == 1
    assert before[1].startswith("commands are refused: this store moved")
    assert as_json[0] == 1
    document = json.loads(as_json[1])
    assert (document["state"], document["verified"], document["noted_timeline"]) == ("open", False, 77)
    assert_refused(unsaid, 2, "say what you accept: --moved")
    assert (accepted[0], accepted[2]) == (0, "")
    assert after[0] == 0
    assert "was compared with its topic" in after[1]
    await kit.count("a", 1)


async def test_a_store_that_went_back_is_not_accepted_by_hand(kit: RestoreKit) -> None:
    await kit.store.note_behind("the store went back: restore it")

    status, accepted = await commands(kit, ["store", "status"], ["store", "accept", "--moved"])

    assert (status[0], status[2]) == (1, "")
    assert status[1] == "commands are refused: the store went back: restore it\n"
    assert_refused(accepted, 1, "not accepted: the store went back: restore it")


async def test_a_wrong_command_line_is_answered_in_one_line(kit: RestoreKit) -> None:
    (both,) = await commands(kit, ["restore", "--dry-run", "--tail-lost"])
    assert_refused(both, 2, "--dry-run and --tail-lost exclude each other")


@pytest.mark.parametrize("command", [["restore"], ["store", "status"], ["store", "accept", "--moved"]])
async def test_a_setting_that_is_missing_or_malformed_is_named(kit: RestoreKit, command: list[str]) -> None:
    (missing,) = await commands(kit, command, MIGRATION_DATABASE_URL="")
    (malformed,) = await commands(kit, command, MIGRATION_DATABASE_URL="mysql://somewhere")

    assert_refused(missing, 2, "COUNTER_MIGRATION_DATABASE_URL is not set")
    assert_refused(malformed, 2, "COUNTER_MIGRATION_DATABASE_URL is malformed")


async def test_what_does_not_answer_is_named(kit: RestoreKit) -> None:
    await lost_tail(kit)
    several: list[list[str]] = [["restore"], ["restore", "--dry-run"], ["restore", "--tail-lost"]]
    epoch = await kit.store.epoch()

    for ended in await commands(kit, *several, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"):
        assert_refused(ended, 1, "no Kafka answers at 127.0.0.1:1")
    away = "postgresql://nobody:nothing@127.0.0.1:1/nowhere"
    for ended in await commands(kit, ["restore"], ["store", "status"], MIGRATION_DATABASE_URL=away):
        assert_refused(ended, 1, "Postgres: ", "127.0.0.1", "port 1 ")

    assert await kit.store.epoch() == epoch


async def test_a_login_that_may_not_become_the_owner_is_refused(kit: RestoreKit) -> None:
    """The service's own, in the wrong variable."""
    for ended in await commands(
        kit, ["restore"], ["store", "status"], MIGRATION_DATABASE_URL=kit.database.service
    ):
        assert_refused(ended, 1, 'Postgres: permission denied to set role "millrace_owner"')


async def test_a_database_that_was_not_migrated_says_so(kit: RestoreKit, postgres: PostgresServer) -> None:
    empty = await postgres.create_database()
    settings = {"DATABASE_URL": empty.service, "MIGRATION_DATABASE_URL": empty.migrator}
    for ended in await commands(kit, ["restore"], ["store", "status"], **settings):
        assert_refused(ended, 1, "does not exist")
    await postgres.drop_database(empty.name)
