"""Which records a pass reads when more are wanted than it may read."""

from collections.abc import Iterable
from typing import Any

import pytest

from board import kafka
from board.kafka import Kafka, Wanted
from board.observations import KafkaView, RecordHead, TopicView

SEEN = KafkaView(1.0, 0.001, {name: TopicView(None, {0: 0}, {0: 99}) for name in ("orders.events", "other")})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Wanted]:
    """What was asked of Kafka, which has every record."""
    asked: list[Wanted] = []

    async def fetch(
        _client: Any, _cluster: Any, wanted: Iterable[Wanted], _size: int
    ) -> tuple[dict[Wanted, RecordHead], dict[Wanted, int]]:
        found = {one: RecordHead(one[2], 0.0) for one in wanted}
        asked.extend(found)
        return found, {}

    monkeypatch.setattr(kafka, "_fetch_wanted", fetch)
    monkeypatch.setattr(kafka, "_READ", 3)
    return asked


async def read(board: Kafka, wanted: set[Wanted]) -> set[Wanted]:
    client: Any = None
    heads, _ = await board._heads(client, client, SEEN, wanted)
    return set(heads)


async def test_the_declared_topics_come_first_and_then_what_had_to_wait(asked: list[Wanted]) -> None:
    board = Kafka("", ["orders.events"])
    declared: set[Wanted] = {("orders.events", 0, 1), ("orders.events", 0, 2)}
    others: set[Wanted] = {("other", 0, n) for n in range(3)}

    first = await read(board, declared | others)
    assert declared < first
    assert len(first) == 3
    left = others - first

    new: set[Wanted] = {("other", 0, n) for n in range(10, 20)}
    second = await read(board, declared | others | new)

    assert declared | others < second  # those that waited came before the new ones
    assert len(second - declared - others) == 1
    assert len(asked) == len(set(asked)) == 6  # and nothing was read twice
    assert left


async def test_what_nobody_wants_any_more_is_forgotten(asked: list[Wanted]) -> None:
    board = Kafka("", ["orders.events"])
    await read(board, {("other", 0, 1)})
    await read(board, set())

    assert await read(board, {("other", 0, 1)})
    assert asked == [("other", 0, 1)] * 2
