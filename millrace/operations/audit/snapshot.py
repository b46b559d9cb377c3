"""The snapshot: up to where everything is looked at, fixed before anything is, so that moving things raise no
alarm.

The order is what makes it right. Three steps, each later than the one before:

  1. One transaction (REPEATABLE READ) in the service's database: the relay's cursor R, how far its consumers
     are, what they parked, how far its projectors are, and the rows of read models that an invariant
     compares.
  2. The end offsets E of the topics.
  3. The head H of the store.

What follows from "later":

* R before E. The cursor moves behind the broker's acknowledgement, so whatever is up to R was in the topic
  before R was read: it must be found before E. Beyond R nothing is promised yet. (A republish moves R back:
  that promises less, never more.)
* E before H. The relay sends what is committed, so whatever is before E in the topic was in the store before
  E was asked for: it must be found up to H. What is sent meanwhile is behind E and not looked at.
* The consumers' offsets before E. A consumer reads what is there, so none may be beyond E.
* The consumers' offsets before H. An effect is committed in one transaction with the offset behind it, so the
  effects of everything before those offsets are in the store up to H. (Unless the log was replaced beneath a
  consumer that has not noticed yet: consumers.py tells by the positions.)
* H falls between transactions, never into one: positions are drawn and become visible under the append lock,
  so the events of a transaction become visible together, and `position <= H` gives the same rows whenever it
  is asked. That is why no transaction has to stay open while millions of events are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from millrace.consumer.beginning import Beginning
from millrace.consumer.beginning_rows import read_beginnings
from millrace.kafka.incoming import Partition
from millrace.operations.audit.invariants import Invariant
from millrace.operations.audit.records import Extent, TopicReader
from millrace.operations.definition import ServiceDefinition
from millrace.operations.lost.streams import LostStream, read_lost
from millrace.postgres.database import Connection, Pool
from millrace.read_models.feed import Feed

_RELAYED: LiteralString = "SELECT position FROM relay_cursor WHERE topic = %s AND generation = %s"
_EPOCH: LiteralString = "SELECT epoch FROM store_identity"
_ENDED: LiteralString = "SELECT old_epoch, ended_at FROM store_lineage"
_HEAD: LiteralString = "SELECT coalesce(max(position), 0) FROM events"
_OFFSETS: LiteralString = """
    SELECT topic, partition, max(next_offset), max(position) FROM consumer_positions
    WHERE consumer = %s GROUP BY topic, partition
"""
_PROJECTED: LiteralString = """
    SELECT c.position, extract(epoch FROM clock_timestamp() - next.recorded_at)::float8, s.error
    FROM projection_checkpoints AS c
    LEFT JOIN LATERAL (
        SELECT e.recorded_at FROM events AS e WHERE e.position > c.position ORDER BY e.position LIMIT 1
    ) AS next ON true
    LEFT JOIN stalls AS s ON s.worker = 'projector ' || c.read_model || ' v' || c.version
        AND s.position > c.position
    WHERE c.read_model = %s AND c.version = %s
"""
# From the first of its parked versions on a stream waits. A record that could not be read has no version.
_PARKED: LiteralString = """
    SELECT stream_id, min(version), count(*), (array_agg(error_class ORDER BY id))[1], (array_agg(error
        ORDER BY id))[1]
    FROM parked_events WHERE consumer = %s GROUP BY stream_id ORDER BY min(id)
"""


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked stream: from `version` on (None: nothing but records that can't be read), so many of its
    events."""

    version: int | None
    events: int
    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class ConsumerProgress:
    """How far a consumer is in each partition: the offset that it reads next, and the highest position (of
    the store behind the topic) that it has taken; what it parked, by stream; and where it began in each
    topic, if it has effects."""

    next_offsets: Mapping[Partition, int]
    positions: Mapping[Partition, int]
    parked: Mapping[str, Parked]
    beginnings: Mapping[str, Beginning] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Projected:
    """How far a read model of the service's own store is, for how many seconds the next event has waited
    (None: there was none), and what keeps its projector from going on, if anything does."""

    position: int
    waiting: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Up to where everything is looked at."""

    taken_at: datetime
    epoch: UUID
    relayed: int
    head: int
    extents: Mapping[str, Extent | None]
    """Topic -> what there was of it; None: no such topic."""
    consumers: Mapping[str, ConsumerProgress] = field(default_factory=dict)
    ended: Mapping[UUID, int] = field(default_factory=dict)
    """Earlier epochs of the store, and the last positions that it still has of them."""
    lost: Sequence[LostStream] = ()
    """Of which a consumer had applied events that no store has any more, and that are not settled."""
    projected: Mapping[str, Projected] = field(default_factory=dict)
    """Read models of the service's own store, by schema."""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "taken_at": self.taken_at.isoformat(),
            "epoch": str(self.epoch),
            "relayed": self.relayed,
            "head": self.head,
            "ends": {
                topic: extent and {str(partition): end for partition, end in extent.ends.items()}
                for topic, extent in self.extents.items()
            },
        }


async def take_snapshot(
    pool: Pool, reader: TopicReader, definition: ServiceDefinition, invariants: Sequence[Invariant]
) -> Snapshot:
    """Fix the snapshot; see above for why in this order. Raises psycopg.Error and KafkaError."""
    taken_at = datetime.now(UTC)
    async with pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            epoch = await _scalar(connection, _EPOCH)
            relayed = await _scalar(connection, _RELAYED, definition.topic.name, definition.topic.generation)
            lineage = await (await connection.execute(_ENDED)).fetchall()
            consumers = {consumer: await _progress(connection, consumer) for consumer in definition.consumers}
            projected = {
                feed.model.schema: await _projected(connection, feed)
                for feed in definition.feeds
                if not feed.topics
            }
            lost = [one for one in await read_lost(connection) if not one.settled]
            for invariant in invariants:
                await invariant.look(connection)
        extents = await reader.extents()
        head = await _scalar(connection, _HEAD)
    return Snapshot(
        taken_at,
        epoch,
        relayed or 0,
        head,
        extents,
        consumers,
        lost=lost,
        ended=dict(lineage),
        projected=projected,
    )


async def _progress(connection: Connection, consumer: str) -> ConsumerProgress:
    offsets = await connection.execute(_OFFSETS, (consumer,))
    places = {(topic, partition): place async for topic, partition, *place in offsets}
    next_offsets = {partition: place[0] for partition, place in places.items()}
    positions = {partition: place[1] for partition, place in places.items()}
    rows = await connection.execute(_PARKED, (consumer,))
    parked = {stream_id: Parked(*one) async for stream_id, *one in rows}
    return ConsumerProgress(next_offsets, positions, parked, await read_beginnings(connection, consumer))


async def _projected(connection: Connection, feed: Feed) -> Projected:
    key = (feed.model.name, feed.model.version)
    row = await (await connection.execute(_PROJECTED, key)).fetchone()
    return Projected(0) if row is None else Projected(*row)


async def _scalar(connection: Connection, query: LiteralString, *parameters: Any) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return None if row is None else row[0]
