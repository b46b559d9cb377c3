"""What there is: every read model of a service with its copies, how far each is, and what is going on."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from psycopg import sql

from millrace.kafka.topic_source import open_topic_source
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Connection, connect
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import copies
from millrace.rebuild.copies import CopyState
from millrace.rebuild.copy_builder import Checkpoint, missing
from millrace.rebuild.progress import PartProgress
from millrace.rebuild.verify import tables_of
from millrace.runtime.errors import SourceGone

_REBUILDING = "SELECT FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"

Status = dict[str, Any]
"""One read model, as `replay list --json` shows it."""


async def statuses(definition: ServiceDefinition, database_url: str, kafka: str) -> list[Status]:
    """All read models of the service, newest version first. Raises psycopg.Error.

    Kafka may be away: then it is not known how many events are behind, and `problem` says so.
    """
    async with await connect(database_url, name="replay-list") as connection:
        states = await copies.list_copies(connection)
        head = await _head(connection)
        result = []
        for feed in definition.feeds:
            result.append(await _status(definition, feed, connection, kafka, head, states))
            result += [
                await _older(definition, feed, connection, state)
                for state in reversed(states)
                if state.name == feed.model.name
                and state.version != feed.model.version
                and state.copy is Copy.LIVE
            ]
        return result


async def _status(
    definition: ServiceDefinition,
    feed: Feed,
    connection: Connection,
    kafka: str,
    head: int,
    states: Sequence[CopyState],
) -> Status:
    model = feed.model
    mine = {
        state.copy: state for state in states if (state.name, state.version) == (model.name, model.version)
    }
    end: Checkpoint | None = {("store", 0): head}
    problem = ""
    if feed.topics:
        end, problem = await _ends(feed, kafka)
    checkpoints = {copy: await _checkpoint(connection, feed, copy) for copy in mine}
    shown = Copy.LIVE if Copy.LIVE in mine else Copy.NEXT
    checkpoint = checkpoints.get(shown, {})
    goal = checkpoints[Copy.LIVE] if Copy.LIVE in mine else end
    running = await _is_rebuilding(connection, model.schema)
    behind = None if end is None else missing(end, checkpoint)
    return {
        "service": definition.name.removesuffix("-service"),
        "model": model.name,
        "version": model.version,
        "source": feed.source,
        "rows": await _rows(connection, model.schema_of(shown)) if shown in mine else None,
        "position": sum(checkpoint.values()),
        "events_behind": behind,
        "lag": behind,  # the older name, for one version
        "state": _state(mine, checkpoints.get(Copy.NEXT, {}), goal, running=running),
        "problem": problem,
        "rebuilding": running,
        "copies": [
            {
                "copy": str(state.copy),
                "began_at": state.began_at,
                "built_at": state.built_at,
                "since": state.since,
                "position": sum(checkpoints[state.copy].values()),
            }
            for state in mine.values()
        ],
    }


async def _older(
    definition: ServiceDefinition, feed: Feed, connection: Connection, state: CopyState
) -> Status:
    """A version that an earlier program left, and that it would read again if it were deployed again."""
    return {
        "service": definition.name.removesuffix("-service"),
        "model": state.name,
        "version": state.version,
        "source": feed.source,
        "rows": await _rows(connection, f"{state.name}_v{state.version}"),
        "position": None,
        "events_behind": None,
        "lag": None,
        "state": "kept for the program before",
        "problem": "",
        "rebuilding": False,
        "copies": [],
    }


def _state(
    mine: Mapping[Copy, CopyState], checkpoint: Checkpoint, goal: Checkpoint | None, *, running: bool
) -> str:
    words = ["live"] if Copy.LIVE in mine else []
    if following := mine.get(Copy.NEXT):
        percent = "" if goal is None else f" {int(100 * _fraction(checkpoint, goal))} %"
        if following.built_at is not None and not running:
            words.append(f"rebuilt copy waits since {following.built_at:%Y-%m-%d %H:%M}")
        elif running:
            words.append(f"{'rebuilding' if words else 'building'}{percent}")
        else:
            words.append(f"{'rebuild' if words else 'build'} stopped at{percent}")
    if previous := mine.get(Copy.PREVIOUS):
        words.append(f"previous kept since {previous.since:%Y-%m-%d %H:%M}")
    return "; ".join(words) or "not there: run the service's migrate"


def _fraction(checkpoint: Checkpoint, goal: Checkpoint) -> float:
    return PartProgress("", sum(goal.values()) - missing(goal, checkpoint), sum(goal.values())).fraction


async def _checkpoint(connection: Connection, feed: Feed, copy: Copy) -> Checkpoint:
    if feed.topics:
        return await copies.offsets_of(connection, feed, copy)
    return {("store", 0): await copies.position_of(connection, feed.model, copy)}


async def _ends(feed: Feed, kafka: str) -> tuple[Checkpoint | None, str]:
    try:
        async with open_topic_source(kafka, feed.topics) as source:
            return await source.readable_ends(), ""
    except SourceGone as gone:
        return None, str(gone)
    except (KafkaError, OSError):
        return None, f"Kafka at {kafka} does not answer"


async def _rows(connection: Connection, schema: str) -> int:
    total = 0
    for table in await tables_of(connection, schema):
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        row = await (await connection.execute(query)).fetchone()
        total += row[0] if row else 0
    return total


async def _head(connection: Connection) -> int:
    row = await (await connection.execute("SELECT coalesce(max(position), 0) FROM public.events")).fetchone()
    return int(row[0]) if row else 0


async def _is_rebuilding(connection: Connection, schema: str) -> bool:
    cursor = await connection.execute(_REBUILDING, (f"millrace-rebuild {schema}",))
    return await cursor.fetchone() is not None
