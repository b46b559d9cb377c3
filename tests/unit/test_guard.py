"""A helper goes on, whatever its turns raise; what keeps it from its work shows."""

import asyncio

import psycopg
import pytest
from structlog.testing import capture_logs

from millrace.postgres.guard import Guard
from millrace.runtime.backoff import Backoff


def quick() -> Backoff:
    return Backoff(initial=0.001, maximum=0.002)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (psycopg.errors.QueryCanceled("canceling statement"), "database: QueryCanceled canceling statement"),
        (psycopg.errors.UniqueViolation("twice"), "database: UniqueViolation twice"),
        (ValueError("a mistake of ours"), "ValueError a mistake of ours"),
        (MemoryError(), "MemoryError"),
    ],
)
async def test_a_turn_that_fails_is_shown_and_followed_by_the_next(fault: Exception, problem: str) -> None:
    stopping = asyncio.Event()
    guard = Guard("helper", stopping, backoff=quick())
    problems: list[str] = []

    async def turn() -> None:
        problems.append(guard.problem)
        if len(problems) < 4:
            raise fault
        if len(problems) == 5:
            stopping.set()

    with capture_logs() as logs:
        await guard.keep(turn)
    assert problems == ["", problem, problem, problem, ""]
    assert [one["event"] for one in logs] == ["helper failed, trying again", "helper works again"]


async def test_a_pause_after_a_failure_ends_when_the_helper_is_to_stop() -> None:
    stopping = asyncio.Event()
    guard = Guard("helper", stopping, backoff=Backoff(initial=3600, maximum=3600))

    async def turn() -> None:
        asyncio.get_running_loop().call_soon(stopping.set)
        raise ValueError

    await asyncio.wait_for(guard.keep(turn), 5)


async def test_a_helper_can_be_cancelled() -> None:
    guard = Guard("helper")
    keeping = asyncio.create_task(guard.keep(asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_a_turn_that_lasts_can_say_that_it_works() -> None:
    stopping = asyncio.Event()
    guard = Guard("helper", stopping, backoff=quick())
    failed = False

    async def turn() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ConnectionError("gone")
        assert guard.problem == "ConnectionError gone"
        guard.recovered()
        assert guard.problem == ""
        stopping.set()

    await guard.keep(turn)
