"""The first start of a consumer with effects: from where on it acts is fixed, once, before it joins its
group."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from uuid import UUID

from millrace.consumer.beginning import Beginning, Begins
from millrace.consumer.beginning_rows import clock, declare, fix, read_beginnings
from millrace.kafka.topics import Topic
from millrace.postgres.database import Pool
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

LastPositions = Callable[[Topic], Awaitable[Mapping[UUID, int]]]
"""Epoch -> the highest position that the topic has of it now."""


async def begin(
    pool: Pool, consumer: str, topics: Iterable[Topic], declared: Begins, last_positions: LastPositions
) -> None:
    """Fixes where the consumer begins in each of `topics` that it never began; elsewhere the first choice
    stays.

    Raises psycopg.Error, and what `last_positions` raises; then nothing is fixed of that topic.
    """
    async with pool.connection() as connection:
        await declare(connection, consumer, declared)
        known = await read_beginnings(connection, consumer)
        at = await clock(connection)  # before the topics are asked: what is recorded meanwhile is not past
    for topic in topics:
        beginning = known.get(topic.name)
        if beginning is None:
            positions = await last_positions(topic) if declared == "now" else {}
            await _fix(pool, consumer, topic.name, Beginning(declared, at, positions))
        elif beginning.begins != declared:
            _warn(consumer, topic.name, beginning, declared)


async def _fix(pool: Pool, consumer: str, topic: str, beginning: Beginning) -> None:
    async with pool.connection() as connection:
        if await fix(connection, consumer, topic, beginning):
            log.info(_described(consumer, topic, beginning), consumer=consumer)


def _described(consumer: str, topic: str, beginning: Beginning) -> str:
    if beginning.begins == "history":
        return f"{consumer} begins with the history of {topic}"
    last = max(beginning.positions.values(), default=0)
    return f"{consumer} begins now: events of {topic} up to position {last} count as seen"


def _warn(consumer: str, topic: str, beginning: Beginning, declared: Begins) -> None:
    how = (
        "with its history" if beginning.begins == "history" else f"at {beginning.begun_at:%Y-%m-%d %H:%M} UTC"
    )
    text = (
        f'{consumer} began to read {topic} {how}: begins="{declared}" changes nothing; reactions with'
        f" another name begin"
        " again (docs/how-to/new-reaction.md)"
    )
    log.warning(text, consumer=consumer)
