"""What the board says of a running platform that is broken: the JSON that the page shows, asked of the
board's process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import sql

from board.document import Board, Path, Stage, StageKind, State
from infra.local.stack import Stack
from millrace.kafka.topics import Topic
from tests.chaos.traffic import Traffic
from tests.e2e.platform import RECOVERY
from tests.support import eventually

PROMISED = 10.0
"""Seconds after a fault within which the board shows it."""
RECENT = 3.0
"""Seconds that what waits may be old when all is well: older, and it is left over from a fault that just
ended."""
PAUSE = 1.6
"""Seconds between a customer's orders: slow enough for any machine to be up to date while they flow."""


class Watched:
    """A platform with traffic on it, and its board."""

    def __init__(self, stack: Stack, traffic: Traffic, client: httpx.AsyncClient) -> None:
        self.traffic = traffic
        self._stack = stack
        self._client = client
        self._broken = time.monotonic()

    def breaks(self) -> None:
        """From now on the time runs: call it right before the fault."""
        self._broken = time.monotonic()

    @property
    def broken_for(self) -> float:
        """Seconds since `breaks`."""
        return time.monotonic() - self._broken

    async def board(self) -> Board:
        """As of the last pass."""
        return Board.model_validate_json(await self._json())

    async def shows(
        self, check: Callable[[Board], object], what: str, within: float = PROMISED
    ) -> tuple[Board, float]:
        """The first board, of those to come, on which `check` holds, and how long after the fault that was.

        Fails `within` seconds of the fault, with what the board said instead.
        """
        seen, said = await self._json(), ""

        async def shown() -> Board | None:
            nonlocal seen, said
            before, seen = seen, await self._json()
            if seen == before:
                return None
            board = Board.model_validate_json(seen)
            said = board.headline.text
            return board if check(board) else None

        try:
            board = await eventually(shown, within=max(0.0, within - self.broken_for), what=what)
        except AssertionError as missing:
            raise AssertionError(f"{missing}; the board says: {said}") from None
        assert board is not None
        return board, self.broken_for

    async def is_well(self) -> Board:
        """Waits until every read model and every reaction is up to date, and the board says so."""
        board, _ = await self.shows(all_is_well, "all is well", within=self.broken_for + RECOVERY)
        return board

    async def _json(self) -> bytes:
        answer = await self._client.get(f"{self._stack.url('board')}/board.json")
        assert answer.status_code == 200, answer.text
        return answer.content


@asynccontextmanager
async def under_traffic(stack: Stack) -> AsyncIterator[Watched]:
    """Orders flow, and all is well; at the end it is so again. Break and heal it in between."""
    async with httpx.AsyncClient(timeout=5.0) as client, Traffic(stack, PAUSE) as traffic:
        watched = Watched(stack, traffic, client)
        await watched.is_well()
        yield watched
        await watched.is_well()


def all_is_well(board: Board) -> bool:
    """Raises AssertionError, with what is not."""
    bad = [
        f"{path.id}: {path.text}"
        for path in board.paths
        if path.declared and (path.state is not State.UP_TO_DATE or path.age is None or path.age > RECENT)
    ]
    assert not bad, bad
    assert board.headline.state is State.UP_TO_DATE, board.headline
    assert board.headline.text.startswith("All read models are up to date; "), board.headline
    return True


def path_of(board: Board, path_id: str) -> Path:
    return next(path for path in board.paths if path.id == path_id)


def stage_of(board: Board, path_id: str, kind: StageKind) -> Stage:
    return next(stage for stage in path_of(board, path_id).stages if stage.kind is kind)


def well_besides(board: Board, *broken: str) -> bool:
    """Whether every path but those is up to date: a fault is not said of what works."""
    others = [path for path in board.paths if path.declared and path.id not in broken]
    assert not (
        bad := [f"{path.id}: {path.text}" for path in others if path.state is not State.UP_TO_DATE]
    ), bad
    return True


@asynccontextmanager
async def refused(
    stack: Stack, service: str, mention: object, code: str, message: str
) -> AsyncIterator[None]:
    """The service's store refuses events whose data hold `mention`, with that SQLSTATE."""
    body = sql.SQL(
        "BEGIN IF position({mention} in NEW.data::text) > 0 THEN RAISE EXCEPTION USING ERRCODE = {code},"
        " MESSAGE = {message}; END IF; RETURN NEW; END"
    ).format(mention=sql.Literal(str(mention)), code=sql.Literal(code), message=sql.Literal(message))
    async with _trigger(stack, service, "events", "INSERT", body):
        yield


@asynccontextmanager
async def builds_held(stack: Stack, service: str) -> AsyncIterator[None]:
    """Anyone who builds a read model of the service waits before the first batch."""
    body = sql.SQL("BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END")
    async with _trigger(stack, service, "read_model_parts", "UPDATE", body), _owner(stack, service) as holder:
        await holder.execute("SELECT pg_advisory_lock(4711)")
        yield


@asynccontextmanager
async def _trigger(
    stack: Stack, service: str, table: str, event: str, body: sql.Composable
) -> AsyncIterator[None]:
    async with _owner(stack, service) as owner:
        # The superuser's own, so that nobody takes it for a part of the schema.
        await owner.execute(
            sql.SQL("CREATE FUNCTION public.of_a_test() RETURNS trigger LANGUAGE plpgsql AS {}").format(
                sql.Literal(body.as_string(owner))
            )
        )
        await owner.execute(
            sql.SQL(
                "CREATE TRIGGER of_a_test BEFORE {} ON {} FOR EACH ROW EXECUTE FUNCTION public.of_a_test()"
            ).format(
                sql.SQL(event),
                sql.Identifier("public", table),
            )
        )
    try:
        yield
    finally:
        async with _owner(stack, service) as owner:
            await owner.execute("DROP FUNCTION public.of_a_test() CASCADE")


@asynccontextmanager
async def _owner(stack: Stack, service: str) -> AsyncIterator[psycopg.AsyncConnection]:
    url = stack.database_url(service, superuser=True)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


async def alter_offsets(stack: Stack, group: str, topic: Topic, to: Callable[[int, int], int]) -> None:
    """As `kafka-consumer-groups --reset-offsets` does, of a group without members. `to` is given start and
    end."""
    client = AIOKafkaConsumer(bootstrap_servers=stack.url("kafka"), group_id=group, enable_auto_commit=False)
    await client.start()
    try:
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        client.assign(places)
        starts, ends = await client.beginning_offsets(places), await client.end_offsets(places)
        await client.commit({place: to(starts[place], ends[place]) for place in places})
    finally:
        await client.stop()


@asynccontextmanager
async def members_come_and_go(
    stack: Stack, group: str, topic: str, every: float = 1.0
) -> AsyncIterator[None]:
    """Somebody joins the group and leaves it again, time and again; it consumes nothing and commits
    nothing."""
    enough = asyncio.Event()

    async def storm() -> None:
        while not enough.is_set():
            member = AIOKafkaConsumer(
                topic, bootstrap_servers=stack.url("kafka"), group_id=group, enable_auto_commit=False
            )
            await member.start()
            with suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), every)
            await member.stop()

    task = asyncio.create_task(storm())
    try:
        yield
    finally:
        enough.set()
        await task
