"""The board's seconds beside the truth, under steady, bursty and idle traffic.

The truth is the test's own: it notes when each event was committed and when its effect could be seen in the
reader's database. A pass is right when it says what was true at some moment between its beginning and its
end.
"""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from board.document import Path, State
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from tests.integration.store_kit import running
from tests.integration.test_board_collector import BoardKit, consuming, is_up_to_date, open_board_kit
from tests.support import eventually

REFRESH = 0.5  # seconds from one look to the next
NEAR = 0.1  # seconds that most looks are right to: the test sees effects with a delay, too
Event = tuple[str, int]


@dataclass
class Truth:
    """When each event was committed and when it took effect, by the wall clock of this machine."""

    committed: dict[Event, float] = field(default_factory=dict)
    applied: dict[Event, float] = field(default_factory=dict)

    def age(self, at: float) -> float:
        """Of the oldest event that had been committed and had not taken effect; 0 when there was none."""
        waiting = (
            moment
            for event, moment in self.committed.items()
            if moment <= at < self.applied.get(event, float("inf"))
        )
        return max(0.0, at - min(waiting, default=at))

    def error(self, said: float, began: float, ended: float) -> float:
        """How far `said` is from the nearest of what was true from `began` to `ended`."""
        changes = (*self.committed.values(), *self.applied.values())
        moments = [began, ended, *(t for t in changes if began < t < ended)]
        return min(abs(said - self.age(t + nudge)) for t in moments for nudge in (-1e-6, 0.0))


@dataclass
class Watched:
    """The kit, what the board said (age, begin and end of the look, path), and what was so."""

    kit: BoardKit
    chance: random.Random
    truth: Truth = field(default_factory=Truth)
    said: list[tuple[float, float, float, Path]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)

    async def append(self, events: int) -> None:
        """To any of five streams, one transaction each."""
        for _ in range(events):
            stream = f"counter-{self.chance.randrange(5)}"
            version = self.versions.get(stream, 0) + 1
            before = time.time()
            await self.kit.source.append(stream, version)
            self.truth.committed[stream, version] = (before + time.time()) / 2
            self.versions[stream] = version

    async def handler_waits(self, seconds: float) -> None:
        """What the handler has in hand stays there for as long."""
        self.kit.recorder.hold()
        await asyncio.sleep(seconds)
        self.kit.recorder.go_on.set()

    async def look(self, refresh: float = REFRESH) -> None:
        while True:
            began = time.time()
            path = await self.kit.path("echo")
            assert path.age is not None, path
            self.said.append((path.age, began, time.time(), path))
            await asyncio.sleep(max(0.0, began + refresh - time.time()))

    async def note_effects(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self.kit.reader.superuser, autocommit=True
        ) as reader:
            while True:
                rows = await (await reader.execute("SELECT stream_id, version FROM applied")).fetchall()
                for row in rows:
                    self.truth.applied.setdefault((row[0], row[1]), time.time())
                await asyncio.sleep(0.01)

    def errors(self) -> list[float]:
        return [self.truth.error(age, began, ended) for age, began, ended, _ in self.said]


@pytest.fixture
async def watched(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[Watched]:
    async with (
        open_board_kit(database, postgres, kafka) as kit,
        running(kit.source.relay(), kit.projector),
        consuming(kit),
    ):
        watched = Watched(kit, random.Random(7))
        await watched.append(1)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        async with _under_way(watched.look), _under_way(watched.note_effects):
            yield watched


@asynccontextmanager
async def _under_way(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """What it raises comes out."""
    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError), outcome


async def _all_applied(watched: Watched) -> None:
    def applied() -> bool:
        return watched.truth.applied.keys() >= watched.truth.committed.keys()

    await eventually(applied, 20.0, "every event applied")
    passes = len(watched.said)
    await eventually(lambda: len(watched.said) > passes + 1, 5.0, "a look after that")


def _exact(watched: Watched) -> None:
    errors = watched.errors()
    assert max(errors) <= REFRESH, sorted(errors)[-5:]
    assert statistics.median(errors) <= NEAR, sorted(errors)
    assert watched.said[-1][0] == 0.0


async def test_under_steady_traffic(watched: Watched) -> None:
    async def traffic() -> None:
        for _ in range(160):
            await watched.append(1)
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(traffic())
    while not sending.done():
        await watched.handler_waits(watched.chance.uniform(0.2, 2.0))
        await asyncio.sleep(watched.chance.uniform(0.1, 0.6))
    await sending
    await _all_applied(watched)

    _exact(watched)
    assert max(age for age, *_ in watched.said) > 1  # there was something to be right about


async def test_under_bursts(watched: Watched) -> None:
    for size in (80, 1, 150, 30):
        held = asyncio.create_task(watched.handler_waits(watched.chance.uniform(0.5, 2.0)))
        await watched.append(size)
        await held
        await asyncio.sleep(watched.chance.uniform(0.2, 1.0))
    await _all_applied(watched)

    _exact(watched)
    assert max(age for age, *_ in watched.said) > 1


async def test_one_event_that_waits_while_nothing_else_goes_on(watched: Watched) -> None:
    await asyncio.sleep(2)  # nothing goes on, and the board says so
    assert {age for age, *_ in watched.said} == {0.0}
    watched.kit.recorder.hold()
    await watched.append(1)

    def stuck() -> bool:
        age, _, _, path = watched.said[-1]
        return path.state is State.STUCK and age > 8

    await eventually(stuck, 15.0, "stuck, and older than 8 s")
    watched.kit.recorder.go_on.set()
    await _all_applied(watched)

    _exact(watched)
