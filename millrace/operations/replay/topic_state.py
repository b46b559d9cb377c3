"""The topic that is to be filled, as Kafka has it: which one, how long, whether what it holds is in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from millrace.kafka.end_offsets import end_offsets
from millrace.kafka.lineage import HEADER as LINEAGE
from millrace.kafka.topic_ids import topic_ids
from millrace.runtime.errors import ReplayError

_ANSWER_MS = 10_000
_THERE = 10.0  # seconds in which every broker must know a new topic


class TopicState:
    """One topic of a Kafka."""

    def __init__(self, name: str, bootstrap_servers: str, client: AIOKafkaClient) -> None:
        self.name = name
        self._servers = bootstrap_servers
        self._client = client

    async def partitions(self) -> int | None:
        """How many it has; None when there is no such topic. Raises KafkaError."""
        found = (await self._client.fetch_all_metadata()).partitions_for_topic(self.name)
        return None if found is None else len(found)

    async def topic_id(self) -> UUID | None:
        """Kafka's id of it; None when the broker knows no ids."""
        return (await topic_ids(self._client, [self.name])).get(self.name)

    async def topic_id_when_there(self) -> UUID | None:
        """The same, of a topic that was just created: a broker learns of it a moment after the controller."""
        deadline = time.monotonic() + _THERE
        while self.name not in (found := await topic_ids(self._client, [self.name])):
            if time.monotonic() > deadline:
                raise ReplayError(f"Kafka knows no topic {self.name} any more: run this again")
            await asyncio.sleep(0.05)
        return found[self.name]

    async def ends(self) -> dict[int, int]:
        """Partition -> offset behind its last record. Waits for the leaders of a topic that was just
        created."""
        return await end_offsets(self._client, self.name, patience=_THERE)

    async def what_is_out_of_order(self, epochs: Collection[UUID], generation: int) -> str | None:
        """Reads the topic to its end. None when it holds a beginning of each stream of the store that has, or
        had, `epochs`, in order (or nothing), so that the whole store can be sent behind it; else the first
        record that is in the way."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            ends = {TopicPartition(self.name, n): end for n, end in (await self.ends()).items() if end}
            if not ends:
                return None
            consumer.assign(list(ends))
            await consumer.seek_to_beginning(*ends)
            last: dict[str, int] = {}
            while any([await consumer.position(one) < end for one, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=1000, max_records=5000)).values():
                    for record in records:
                        if problem := _problem(dict(record.headers), last, epochs, generation):
                            return f"partition {record.partition}, offset {record.offset}: {problem}"
        finally:
            await consumer.stop()
        return None


def _problem(
    headers: Mapping[str, bytes], last: dict[str, int], epochs: Collection[UUID], generation: int
) -> str | None:
    """`last`: stream -> the last version seen; brought up to date."""
    if LINEAGE in headers:
        return None  # it names no stream
    try:
        stream, version = headers["ce_subject"].decode(), int(headers["millrace_version"])
        if int(headers["millrace_generation"]) < generation:
            return None  # every consumer passes over it
        if UUID(headers["millrace_epoch"].decode()) not in epochs:
            return f"an event of another store, {headers['ce_source'].decode()}"
    except (KeyError, ValueError):
        return "a record that no relay wrote"
    seen = last.get(stream, 0)
    if version > seen + 1:
        return f"version {version} of {stream} comes before version {seen + 1}"
    last[stream] = max(seen, version)
    return None


@asynccontextmanager
async def open_topic_state(name: str, bootstrap_servers: str) -> AsyncIterator[TopicState]:
    """Raises KafkaError when no broker answers."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=_ANSWER_MS)
    try:
        try:
            await client.bootstrap()
        except KafkaError as error:
            raise ReplayError(
                f"no Kafka answers at {bootstrap_servers}: start it, then run this again"
            ) from error
        yield TopicState(name, bootstrap_servers, client)
    finally:
        await client.close()
