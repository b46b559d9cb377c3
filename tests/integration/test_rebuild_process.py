"""Rebuilds as people run them: a program that is killed and started again, that refuses what can't be
done."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import psycopg
import pytest

from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls
from tests.integration.rebuild_kit import TOTALS, many_events, totals
from tests.integration.store_kit import StoreKit, open_store_kit
from tests.support import eventually

EVENTS, STREAMS = 25_000, 500


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, TOTALS) as kit:
        yield kit


@asynccontextmanager
async def started(kit: StoreKit, *arguments: str, **settings: str) -> AsyncIterator[Process]:
    """The command as a process, gone in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.rebuild_process",
        "replay",
        *arguments,
        env=os.environ
        | {"REBUILT_DATABASE_URL": kit.database.service, "REBUILT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        | settings,
        cwd=REPOSITORY,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(kit: StoreKit, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    async with started(kit, *arguments) as process:
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def outcome(kit: StoreKit, *arguments: str) -> dict[str, Any]:
    """What a rebuild came to."""
    code, out, err = await run(kit, "rebuild", "totals", "--json", *arguments)
    assert code == 0, err
    document: dict[str, Any] = json.loads(out.splitlines()[-1])["outcome"]
    return document


async def positions(kit: StoreKit) -> list[int]:
    """How far the parts of the build are."""
    return [row[0] for row in await kit.fetch("SELECT position FROM read_model_parts ORDER BY part")]


async def test_killed_in_the_middle_it_goes_on_from_there(kit: StoreKit) -> None:
    await many_events(kit, EVENTS, streams=STREAMS)
    async with started(kit, "rebuild", "totals", REBUILT_HOLD_AT="20001") as process:

        async def at_twenty_thousand() -> bool:
            return await positions(kit) == [20_000]

        await eventually(at_twenty_thousand, 30.0, "two batches are done, the third one is held")
        process.send_signal(signal.SIGKILL)
    assert sum(events for _, events in (await totals(kit, "totals_v1_next")).values()) == 20_000
    code, out, _ = await run(kit, "list", "--json")
    assert code == 0
    assert json.loads(out)[0]["state"].startswith("live; rebuild stopped at")

    finished = await outcome(kit)

    assert (finished["resumed"], finished["live"], finished["events"]) == (True, True, EVENTS)
    rows = await totals(kit)
    assert len(rows) == STREAMS
    assert sum(events for _, events in rows.values()) == EVENTS
    assert sum(total for total, _ in rows.values()) == sum(range(EVENTS))


async def test_workers_end_with_their_parent_and_leave_what_they_did(kit: StoreKit) -> None:
    await many_events(kit, 2 * EVENTS, streams=STREAMS)
    async with started(kit, "rebuild", "totals", "--parallel", "2", REBUILT_HOLD_AT="30000") as process:

        async def both_have_begun() -> bool:
            return len(reached := await positions(kit)) == 2 and min(reached) > 0

        await eventually(both_have_begun, 30.0, "a batch of each share is done")
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await eventually(
            lambda: (
                not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
            ),
            what="the workers end",
        )

    finished = await outcome(kit, "--parallel", "2")

    assert (finished["resumed"], finished["live"]) == (True, True)
    rows = await totals(kit)
    assert sum(events for _, events in rows.values()) == 2 * EVENTS
    assert sum(total for total, _ in rows.values()) == sum(range(2 * EVENTS))


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_it_takes_its_workers_along(kit: StoreKit, stop_signal: signal.Signals) -> None:
    await many_events(kit, EVENTS, streams=STREAMS)
    async with started(kit, "rebuild", "totals", "--parallel", "2", REBUILT_HOLD_AT="1") as process:

        async def working() -> list[psutil.Process]:
            workers = psutil.Process(process.pid).children()
            return workers if len(workers) == 2 else []

        workers = await eventually(working, 30.0, "two workers")
        process.send_signal(stop_signal)
        _, err = await process.communicate()
    assert not any(worker.is_running() for worker in workers)
    assert process.returncode == 128 + stop_signal
    if stop_signal is signal.SIGINT:
        assert "the same command goes on from there" in err.decode()


REFUSALS = {
    ("rebuild", "nothing"): "no read model 'nothing'; there are: totals",
    (
        "rollback",
        "totals",
    ): "totals_v1 has no previous copy to go back to: one is kept when a rebuild takes over",
    ("abandon", "totals"): "totals_v1 has no copy being built: `replay list` shows what there is",
}


async def test_what_can_not_be_done_is_said_in_one_line_and_changes_nothing(kit: StoreKit) -> None:
    refused = [await run(kit, *arguments) for arguments in REFUSALS]
    assert refused == [(1, "", f"rebuilt-service: {said}\n") for said in REFUSALS.values()]
    assert await kit.fetch("SELECT copy FROM read_model_copies") == [("live",)]


async def test_no_process_at_all_is_a_wrong_command_line(kit: StoreKit) -> None:
    code, _, err = await run(kit, "rebuild", "totals", "--parallel", "0")
    assert (code, "--parallel" in err) == (2, True)


async def test_a_right_that_is_missing_is_named(kit: StoreKit) -> None:
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("REVOKE EXECUTE ON FUNCTION begin_read_model_copy FROM millrace_service")
    code, _, err = await run(kit, "rebuild", "totals")
    assert code == 1
    assert err == "rebuilt-service: Postgres: permission denied for function begin_read_model_copy\n"


async def test_a_database_that_is_away_is_said_at_once(kit: StoreKit) -> None:
    async with started(
        kit, "rebuild", "totals", REBUILT_DATABASE_URL="postgresql://a:b@127.0.0.1:1/c"
    ) as process:
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode().startswith("rebuilt-service: Postgres: connection failed")
    assert len(err.decode().splitlines()) <= 2


@pytest.mark.parametrize("flag", ["--no-cutover", pytest.param("--no-switch", id="its older name")])
async def test_a_copy_that_nobody_wants_is_dropped(kit: StoreKit, flag: str) -> None:
    await many_events(kit, 100, streams=5)
    kept_apart = await outcome(kit, flag)
    assert (kept_apart["live"], kept_apart["switched"]) == (False, False)
    code, out, _ = await run(kit, "abandon", "totals")
    assert (code, out) == (0, "totals_v1_next is dropped\n")
    assert await kit.fetch("SELECT copy FROM read_model_copies") == [("live",)]
    assert (
        await kit.fetch("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'totals_v1_next')") == []
    )
