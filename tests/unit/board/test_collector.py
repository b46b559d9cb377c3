"""A source that is slow, or gone, holds up no pass; what it said last stays."""

import asyncio
from dataclasses import dataclass

import psycopg
import pytest
from aiokafka.errors import KafkaConnectionError

from board.collector import Watched
from board.stores import problem_of


@dataclass
class View:
    at: float


class Source:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[View | Exception] = asyncio.Queue()
        self.asked = 0

    async def look(self) -> View:
        self.asked += 1
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_an_answer_in_time_is_fresh() -> None:
    source, watch = Source(), Watched[View]("kafka")
    source.answers.put_nowait(View(1.0))

    await watch.look(source.look, 1.0)

    assert (watch.last, watch.fresh, watch.at, watch.problem) == (View(1.0), True, 1.0, "")


async def test_a_fault_keeps_what_was_seen_and_says_why() -> None:
    source, watch = Source(), Watched[View]("kafka")
    source.answers.put_nowait(View(1.0))
    await watch.look(source.look, 1.0)
    source.answers.put_nowait(ConnectionRefusedError("connection refused"))

    await watch.look(source.look, 1.0)

    assert (watch.last, watch.fresh, watch.at, watch.problem) == (View(1.0), False, 1.0, "connection refused")


async def test_one_that_hangs_is_asked_once_and_its_late_answer_is_no_fresh_one() -> None:
    source, watch = Source(), Watched[View]("kafka")
    await watch.look(source.look, 0.0)
    await watch.look(source.look, 0.0)
    await asyncio.sleep(0)
    assert (source.asked, watch.fresh, watch.last) == (1, False, None)

    source.answers.put_nowait(View(1.0))
    await asyncio.wait({watch.asking} if watch.asking else set())
    await watch.look(source.look, 0.0)
    assert (watch.last, watch.fresh) == (View(1.0), False)

    source.answers.put_nowait(View(2.0))
    await watch.look(source.look, 1.0)
    assert (watch.last, watch.fresh) == (View(2.0), True)
    await watch.stop()


async def test_one_that_was_seen_is_given_time_before_it_is_called_gone() -> None:
    source, watch = Source(), Watched[View]("kafka")
    source.answers.put_nowait(View(1.0))
    await watch.look(source.look, 1.0)

    asyncio.get_running_loop().call_later(0.01, source.answers.put_nowait, View(2.0))
    await watch.look(source.look, 0.0)
    assert (watch.last, watch.fresh, watch.problem) == (View(2.0), True, "")

    await watch.look(source.look, 0.0, late=0.01)
    assert (watch.last, watch.fresh, watch.problem) == (View(2.0), False, "no answer for 0.01 s")
    await watch.look(source.look, 0.0)  # and no pass waits for it any more
    assert (watch.fresh, watch.problem) == (False, "no answer for 0.0 s")
    await watch.stop()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            psycopg.OperationalError(
                'connection failed: connection to server at "127.0.0.1", port 5501 failed: Connection'
                " refused\n"
                "\tIs the server running on that host and accepting TCP/IP connections?"
            ),
            'connection to server at "127.0.0.1", port 5501 failed: Connection refused',
        ),
        (KafkaConnectionError("no broker answers at kafka:9092"), "no broker answers at kafka:9092"),
        (TimeoutError(), "no answer in time"),
        (psycopg.OperationalError(), "OperationalError"),
    ],
)
def test_a_problem_is_one_line_for_people(error: Exception, said: str) -> None:
    assert problem_of(error) == said
