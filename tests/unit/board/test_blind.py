"""Whatever goes wrong in a pass, the board says that it can't see: an answer that got old never looks
fresh."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from board import collector as collectors
from board.assemble import Assembler
from board.blind import blind
from board.collector import Collector
from board.crossing_times import CrossingTimes
from board.document import Board, State
from board.history import History
from board.kafka import Kafka
from board.observations import KafkaView, StoreView
from board.stores import Store
from board.watch import Watch
from tests.support import eventually
from tests.unit import board_examples as examples
from tests.unit.board import views
from tests.unit.board_poller import Shown, serving

FAULTS = [
    KeyError("carrier"),
    MemoryError(),
    asyncio.CancelledError(),  # of something that the pass waited for
]


class Sources:
    """The servers that the collector looks at, as it sees them: all is well until the test breaks one."""

    def __init__(self) -> None:
        self.broken: dict[str, BaseException] = {}

    async def store(self, service: str) -> StoreView:
        self.fail("store")
        at = asyncio.get_running_loop().time()
        checkpoints = [views.checkpoint(10)] if service == "order" else []
        return views.store(service, at=at, cursors=[views.cursor(10)], checkpoints=checkpoints,
                           copies=[views.copy()], applied=[views.applied(0, 5)])  # fmt: skip

    async def kafka(self) -> KafkaView:
        self.fail("kafka")
        at = asyncio.get_running_loop().time()
        return views.kafka({0: 5}, at=at, groups={views.GROUP: views.group({0: 5})})

    def fail(self, where: str) -> None:
        if where in self.broken:
            raise self.broken[where]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Each step of a pass can be broken by its name."""
    sources = Sources()

    async def store(self: Store, *_: object) -> StoreView:
        return await sources.store(self.service)

    async def kafka(*_: object) -> KafkaView:
        return await sources.kafka()

    monkeypatch.setattr(Store, "look", store)
    monkeypatch.setattr(Kafka, "look", kafka)
    steps: list[tuple[Any, str]] = [
        (collectors, "questions"), (collectors, "clock_offset"),
        (CrossingTimes, "observe"), (Assembler, "board"),
    ]  # fmt: skip
    for owner, name in steps:
        monkeypatch.setattr(owner, name, _breakable(sources, name, getattr(owner, name)))
    return sources


def _breakable(sources: Sources, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def step(*args: Any, **more: Any) -> Any:
        sources.fail(name)
        return real(*args, **more)

    return step


@pytest.fixture
async def client(sources: Sources, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    databases = {"order": "postgresql://nowhere", "stock": "postgresql://nowhere"}
    async with (
        Collector(databases, "nowhere:9092", views.DECLARED) as poller,
        serving(poller, tmp_path / "history.sqlite") as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        await eventually(lambda: says(client, State.UP_TO_DATE))
        yield client


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """What is logged; structlog's own traceback takes seconds, in which the server's loop waits."""
    with capture_logs() as lines:
        yield lines


async def seen(client: httpx.AsyncClient) -> Board:
    return Board.model_validate_json((await client.get("/board.json")).content)


async def says(client: httpx.AsyncClient, state: State) -> bool:
    answer = await client.get("/board.json")
    return answer.status_code == 200 and answer.json()["headline"]["state"] == state


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("step", ["store", "kafka", "questions", "clock_offset", "observe", "board"])
async def test_a_fault_anywhere_in_a_pass_is_cant_see(
    client: httpx.AsyncClient, sources: Sources, step: str, fault: BaseException, logs: list[Any]
) -> None:
    sources.broken[step] = fault
    await eventually(lambda: says(client, State.CANT_SEE))

    first = await seen(client)
    assert "up to date" not in first.headline.text
    blind = {path.id for path in first.paths if path.state is State.CANT_SEE}
    others = {source.name for source in first.sources if source.seen}
    if step == "kafka":  # one source costs its own numbers, and no others
        assert (blind, others) == ({"stock/saga"}, {"postgres-order", "postgres-stock"})
    else:
        assert (blind, others) == ({"order/orders", "stock/saga"}, {"kafka"} if step == "store" else set())

    async def older() -> bool:
        return (await seen(client)).headline.age > first.headline.age + 0.2

    await eventually(older)
    sources.broken.clear()
    await eventually(lambda: says(client, State.UP_TO_DATE))


class Hangs(Shown):
    """Poller whose pass does not end while the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def look(self) -> Board:
        await self.goes_on.wait()
        return await super().look()


class Stalled(History):
    """A history whose file takes nothing: a full disk, or a lock that somebody holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fault: Callable[[], None] = lambda: None

    def record(self, *args: Any, **more: Any) -> None:
        self.fault()
        super().record(*args, **more)


async def watched(watch: Watch, wanted: Callable[[Board], bool]) -> Board:
    async def is_so() -> bool:
        return watch.board is not None and wanted(watch.board)

    await eventually(is_so)
    assert watch.board is not None
    assert json.loads(watch.json)["headline"]["state"] == watch.board.headline.state
    return watch.board


async def test_a_pass_that_hangs_is_cant_see(tmp_path: Path) -> None:
    poller = Hangs()
    watch = Watch(poller=poller, history=History(tmp_path / "history.sqlite"), interval=0.05, late=0.1)
    async with running(watch.run()):
        await watched(watch, lambda board: board.headline.state is State.UP_TO_DATE)
        poller.goes_on.clear()
        hung = await watched(watch, lambda board: board.headline.state is State.CANT_SEE)
        assert "no pass has ended" in hung.headline.text
        assert not any(source.seen for source in hung.sources)
        await watched(watch, lambda board: board.headline.age > hung.headline.age + 0.2)
        poller.goes_on.set()
        await watched(watch, lambda board: board.headline.state is State.UP_TO_DATE)


async def test_the_first_pass_that_fails_says_so(tmp_path: Path, logs: list[Any]) -> None:
    poller = Shown()
    poller.fails = KeyError("carrier")
    watch = Watch(poller=poller, history=History(tmp_path / "history.sqlite"), interval=0.05, late=600)
    async with running(watch.run()):
        board = await watched(watch, lambda board: board.headline.state is State.CANT_SEE)
    assert "Platform not seen yet" in board.headline.text
    assert "KeyError: 'carrier'" in board.headline.text


async def test_a_history_that_can_not_be_written_holds_up_no_pass(tmp_path: Path, logs: list[Any]) -> None:
    poller, history = Shown(), Stalled(tmp_path / "history.sqlite")
    watch = Watch(poller=poller, history=history, interval=0.05)
    async with running(watch.run()):
        await watched(watch, lambda board: board.number > 1)

        def full() -> None:
            raise OSError("no space left on device")

        history.fault = full
        passes = poller.passes
        board = await watched(watch, lambda board: board.number > passes + 3)
        assert board.headline.state is State.UP_TO_DATE
        await eventually(lambda: said(watch, "no space left on device"))


async def test_a_history_that_hangs_holds_up_no_pass(tmp_path: Path) -> None:
    poller, history, free = Shown(), Stalled(tmp_path / "history.sqlite"), threading.Event()

    def hang() -> None:
        free.wait(30)

    history.fault = hang
    watch = Watch(poller=poller, history=history, interval=0.05)
    try:
        async with running(watch.run()):
            await watched(watch, lambda board: board.number > 5)
    finally:
        free.set()


async def said(watch: Watch, problem: str) -> bool:
    return problem in watch.ready()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_nothing_of_a_blind_board_looks_fresh() -> None:
    last = examples.in_trouble()

    board = blind(last, last.at, 12.0, "the last pass failed: KeyError: 'carrier'")

    assert board.headline.text == (
        "Platform unreachable for 12 s: the last pass failed: KeyError: 'carrier'. Showing data from"
        " 12:03:10."
    )
    assert board.headline.age == pytest.approx(last.headline.age + 12.0)
    assert board.headline.as_of == last.headline.as_of
    stages = [stage for path in board.paths for stage in path.stages]
    parts = [part for stage in stages for part in stage.partitions]
    assert {one.state for one in board.paths} == {one.state for one in stages} == {one.state for one in parts}
    assert {one.state for one in parts} == {State.CANT_SEE}
    assert {one.rate_in for one in stages} == {None}
    assert all(not source.seen and source.age is not None and source.age >= 12.0 for source in board.sources)
    assert (board.stores, {one.round_trip for one in board.canaries}) == ([], {None})
