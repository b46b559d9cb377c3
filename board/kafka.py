"""Kafka, seen over a client's own connections: no group is joined, no offset committed, no topic created.

Commits are read before the ends of the logs. Of a record only its headers are looked at, and it is read once:
the record at an offset of a topic doesn't change.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaConnectionError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v2, ListGroupsRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition as KafkaPartition

from board.commits import Decoder, OffsetFetch
from board.log_stages import Done, done_by, is_done, offset_in, wanted_records
from board.observations import (
    AppliedRow,
    GroupView,
    KafkaView,
    MemberView,
    RecordHead,
    StoreView,
    TopicPartition,
    TopicView,
)
from board.records import NOTHING, Fetched, heads_at, read_heads
from millrace.kafka.topic_ids import topic_ids

_LATEST, _EARLIEST = -1, -2  # instead of timestamps
_NO_REPLICA, _READ_UNCOMMITTED, _READ_COMMITTED = -1, 0, 1
_SMALL, _LARGE = 64 * 1024, 8 * 1024 * 1024
"""Bytes asked of a partition: what holds nearly every batch; and for the one that it doesn't hold."""
_MANY = 128
"""Partitions from which on a quarter of that is asked first."""
_READ = 5000
"""Records that a pass reads at most. The declared topics' come first, then those that had to wait."""
_SCANS = 8
"""Fetches of one pass that look behind records that were applied already."""

Wanted = tuple[str, int, int]  # topic, partition, offset
Cached = tuple[UUID | None, str, int, int]


class _DescribeGroups(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka 0.14 would ask by version 3 and read the answer as if it were of version 2: wrong behind the
    first group."""

    API_KEY = 15

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[DescribeGroupsRequest_v2]) -> DescribeGroupsRequest_v2:
        return request_struct_class(self._groups)


class Kafka:
    """One cluster. Use it from one task at a time."""

    def __init__(self, bootstrap_servers: str, topics: Iterable[str]) -> None:
        """`topics` are looked at in any case, others when a group committed to them."""
        self._servers = bootstrap_servers
        self._topics = frozenset(topics)
        self._client: AIOKafkaClient | None = None
        self._records: dict[Cached, RecordHead] = {}
        self._skipped: dict[
            Cached, int
        ] = {}  # up to where nothing that a consumer is given lies behind an offset
        self._scanned: dict[tuple[str, UUID | None, str, int], int] = {}
        self._waiting: frozenset[Wanted] = frozenset()
        self._commits = Decoder()

    async def look(self, stores: Mapping[str, StoreView]) -> KafkaView:
        """`stores` were read before: their rows name offsets. Raises KafkaError, OSError, TimeoutError."""
        try:
            return await self._look(await self.client(), stores)
        except BaseException:  # also a cancelled wait
            await self.close()
            raise

    async def client(self) -> AIOKafkaClient:
        """The client, made when there is none."""
        if self._client is None:
            client = AIOKafkaClient(
                bootstrap_servers=self._servers,
                client_id="millrace-board",
                request_timeout_ms=2000,
                metadata_max_age_ms=10_000,
                retry_backoff_ms=100,
            )
            try:
                await client.bootstrap()
            except BaseException as error:
                await client.close()
                if isinstance(error, KafkaConnectionError):
                    raise KafkaConnectionError(f"no broker answers at {self._servers}") from error
                raise
            self._client = client
        return self._client

    async def close(self) -> None:
        """Harmless to repeat."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _look(self, client: AIOKafkaClient, stores: Mapping[str, StoreView]) -> KafkaView:
        began = time.monotonic()
        cluster = await client.fetch_all_metadata()
        trip = time.monotonic() - began
        groups = await _groups(client, cluster, self._commits)
        committed = {topic for group in groups.values() for topic, _ in group.commits}
        names = (self._topics | committed) & set(cluster.topics())
        ids, at = await topic_ids(client, sorted(names)), time.monotonic()
        ends = await _offsets(client, cluster, names, _LATEST)
        stable = await _offsets(client, cluster, names, _LATEST, _READ_COMMITTED)
        starts = await _offsets(client, cluster, names, _EARLIEST)
        topics = {
            name: TopicView(ids.get(name), starts[name], ends[name], _held(ends[name], stable[name]))
            for name in names
        }
        seen = KafkaView(at=at, round_trip=trip, topics=topics, groups=groups)
        heads, drained = await self._heads(client, cluster, seen, wanted_records(stores, seen))
        first_new = await self._first_new(client, cluster, seen, stores, heads)
        return KafkaView(at, trip, topics, groups, heads, first_new, drained)

    async def _heads(
        self, client: AIOKafkaClient, cluster: ClusterMetadata, seen: KafkaView, wanted: set[Wanted]
    ) -> tuple[dict[Wanted, RecordHead], frozenset[Wanted]]:
        """KafkaView.heads and KafkaView.drained."""

        def key(one: Wanted) -> Cached:
            return (seen.topics[one[0]].id, *one)

        def place(one: Wanted) -> Wanted:
            return (*one[:2], self._skipped.get(key(one), one[2]))

        def missing_of(some: Iterable[Wanted]) -> list[Wanted]:
            return [one for one in some if key(one) not in self._records and not _at_end(place(one), seen)]

        self._records = {key(one): self._records[key(one)] for one in wanted if key(one) in self._records}
        self._skipped = {
            one: at for one, at in self._skipped.items() if one[1:] in wanted and one == key(one[1:])
        }
        missing = missing_of(wanted)
        if len(missing) > _READ:
            missing.sort(key=lambda one: (one[0] not in self._topics, one not in self._waiting))
        missing, self._waiting = missing[:_READ], frozenset(missing[_READ:])
        few = len({one[:2] for one in missing}) <= _MANY
        for size in (_SMALL, _LARGE) if few else (_SMALL // 4, _SMALL, _LARGE):
            found, reached = await _fetch_wanted(client, cluster, {place(one) for one in missing}, size)
            for one in missing:
                at = place(one)
                if at in found:
                    self._records[key(one)] = found[at]
                elif at in reached:
                    self._skipped[key(one)] = reached[at]
            missing = missing_of(missing)
        heads = {one: self._records[key(one)] for one in wanted if key(one) in self._records}
        drained = frozenset(
            one[1:]
            for one, at in self._skipped.items()
            if one not in self._records and _at_end((one[1], one[2], at), seen)
        )
        return heads | await self._undecided(client, cluster, missing), drained

    async def _undecided(
        self, client: AIOKafkaClient, cluster: ClusterMetadata, wanted: Sequence[Wanted]
    ) -> dict[Wanted, RecordHead]:
        """Records of transactions that are open: somebody waits for them, or for their end. Not to be
        remembered."""
        if not wanted:
            return {}
        found, _ = await _fetch_wanted(client, cluster, wanted, _SMALL, _READ_UNCOMMITTED)
        return found

    async def _first_new(
        self,
        client: AIOKafkaClient,
        cluster: ClusterMetadata,
        seen: KafkaView,
        stores: Mapping[str, StoreView],
        heads: Mapping[Wanted, RecordHead],
    ) -> dict[tuple[str, str, int, int], RecordHead | None]:
        """Behind records that were applied already: the first that was not. A long stretch takes several
        passes."""
        found: dict[tuple[str, str, int, int], RecordHead | None] = {}
        remembered: dict[tuple[str, UUID | None, str, int], int] = {}
        budget = _SCANS
        for (consumer, topic, partition), rows in _by_place(stores, seen).items():
            view = seen.topics[topic]
            start = max(max(offset_in(row, view) for row in rows), view.starts.get(partition, 0))
            head, done = heads.get((topic, partition, start)), done_by(rows)
            if head is None or not is_done(head, done):
                continue
            memory = (consumer, view.id, topic, partition)
            offset, new = max(start, self._scanned.get(memory, 0)), None
            while new is None and offset < view.ends[partition] and budget:
                budget -= 1
                place = (topic, partition, offset)
                fetched = (await _fetch(client, cluster, [place], _LARGE // 8)).get(place, NOTHING)
                records, reached = read_heads(fetched, offset)
                offset, new = _scan(records, reached, done)
            remembered[memory] = offset
            if new is not None or offset >= view.ends[partition]:
                found[consumer, topic, partition, start] = new
        self._scanned = remembered
        return found


def _by_place(
    stores: Mapping[str, StoreView], seen: KafkaView
) -> dict[tuple[str, str, int], list[AppliedRow]]:
    places: dict[tuple[str, str, int], list[AppliedRow]] = defaultdict(list)
    for store in stores.values():
        for row in store.applied:
            if row.topic in seen.topics and row.partition in seen.topics[row.topic].ends:
                places[row.consumer, row.topic, row.partition].append(row)
    return places


def _scan(records: Sequence[RecordHead], reached: int, done: Done) -> tuple[int, RecordHead | None]:
    """Where to look on, and the first record that was not applied. `reached`: behind all of them."""
    new = next((head for head in records if not is_done(head, done)), None)
    return (new.offset, new) if new is not None else (reached, None)


def _at_end(place: Wanted, seen: KafkaView) -> bool:
    topic, partition, offset = place
    return offset >= seen.topics[topic].ends[partition]


async def _groups(client: AIOKafkaClient, cluster: ClusterMetadata, decoder: Decoder) -> dict[str, GroupView]:
    """Every group that consumes, with its members and commits: the broker that lists a group is its
    coordinator."""
    nodes = [broker.nodeId for broker in cluster.brokers()]
    if not nodes:
        raise KafkaConnectionError("no broker is known")

    async def of(node: int) -> dict[str, GroupView]:
        listed = await client.send(node, ListGroupsRequest())
        if listed.error_code:
            raise for_code(listed.error_code)("groups")
        names = [name for name, kind, *_ in listed.groups if kind in ("consumer", "")]
        if not names:
            return {}
        described, *offsets = await asyncio.gather(
            client.send(node, _DescribeGroups(names)),
            *(client.send(node, OffsetFetch(name)) for name in names),
        )
        commits = {name: decoder.commits(name, answer) for name, answer in zip(names, offsets, strict=True)}
        return {
            group: GroupView(state, [_member(*member) for member in members], commits.get(group, {}))
            for error, group, state, _, _, members, *_ in described.groups
            if not error
        }

    found: dict[str, GroupView] = {}
    for some in await asyncio.gather(*(of(node) for node in nodes)):
        found |= some
    decoder.keep(found)
    return found


def _member(member: str, client: str, host: str, _metadata: bytes, assignment: bytes, *_: Any) -> MemberView:
    return MemberView(member, client, host.lstrip("/"), _assigned(assignment) if assignment else frozenset())


@lru_cache(maxsize=1024)  # it seldom changes
def _assigned(assignment: bytes) -> frozenset[TopicPartition]:
    try:
        decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    except Exception:  # noqa: BLE001 - bytes of any client's own; it costs what this member is assigned
        return frozenset()
    return frozenset((place.topic, place.partition) for place in decoded.partitions())


def _held(ends: Mapping[int, int], stable: Mapping[int, int]) -> dict[int, int]:
    """`ends` were read first: what is stable up to less is kept back by a transaction."""
    return {partition: offset for partition, offset in stable.items() if offset < ends.get(partition, 0)}


async def _offsets(
    client: AIOKafkaClient,
    cluster: ClusterMetadata,
    topics: Iterable[str],
    moment: int,
    isolation: int = _READ_UNCOMMITTED,
) -> dict[str, dict[int, int]]:
    """Topic -> partition -> offset. A partition without a leader is left out: it can't be seen."""
    places = [KafkaPartition(topic, n) for topic in topics for n in cluster.partitions_for_topic(topic) or ()]
    found: dict[str, dict[int, int]] = {topic: {} for topic in topics}

    async def of(leader: int, some: Mapping[str, list[int]]) -> None:
        wanted = [(topic, [(n, moment) for n in numbers]) for topic, numbers in some.items()]
        answer = await client.send(leader, OffsetRequest(_NO_REPLICA, isolation, wanted))
        for topic, partitions in answer.topics:
            for partition, error, _, offset in partitions:
                if not error:
                    found[topic][partition] = offset

    await asyncio.gather(*(of(leader, some) for leader, some in _by_leader(cluster, places).items()))
    return found


def _by_leader(cluster: ClusterMetadata, places: Iterable[KafkaPartition]) -> dict[int, dict[str, list[int]]]:
    leaders: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place in places:
        leader = cluster.leader_for_partition(place)
        if leader is not None and leader >= 0:
            leaders[leader][place.topic].append(place.partition)
    return leaders


async def _fetch_wanted(
    client: AIOKafkaClient,
    cluster: ClusterMetadata,
    wanted: Iterable[Wanted],
    size: int,
    isolation: int = _READ_COMMITTED,
) -> tuple[dict[Wanted, RecordHead], dict[Wanted, int]]:
    """The records at these offsets, as far as `size` bytes a fetch hold them. What is near is read in one go.

    Of an offset behind which there is none in these bytes, the second says up to where that is known.
    """
    found: dict[Wanted, RecordHead] = {}
    skipped: dict[Wanted, int] = {}
    offsets: dict[TopicPartition, list[int]] = defaultdict(list)
    for topic, partition, offset in wanted:
        offsets[topic, partition].append(offset)
    while offsets:
        for some in offsets.values():
            some.sort()
        turn = [(topic, partition, some[0]) for (topic, partition), some in offsets.items()]
        answers = await _fetch(client, cluster, turn, size, isolation)
        left: dict[TopicPartition, list[int]] = defaultdict(list)
        for topic, partition, first in turn:
            later = offsets[topic, partition]
            heads, reached = heads_at(answers.get((topic, partition, first), NOTHING), later)
            found |= {(topic, partition, offset): head for offset, head in heads.items()}
            missing = [offset for offset in later if offset not in heads]
            skipped |= {(topic, partition, offset): reached for offset in missing if offset < reached}
            if rest := [offset for offset in missing if offset >= reached and offset != first]:
                left[topic, partition] = rest
        offsets = left
    return found, skipped


async def _fetch(
    client: AIOKafkaClient,
    cluster: ClusterMetadata,
    wanted: Sequence[Wanted],
    size: int,
    isolation: int = _READ_COMMITTED,
) -> dict[Wanted, Fetched]:
    """What lies from each offset on, in `size` bytes a partition; one offset of a partition."""
    found: dict[Wanted, Fetched] = {}
    begin = {(topic, partition): offset for topic, partition, offset in wanted}

    async def of(leader: int, some: Mapping[str, list[int]]) -> None:
        topics = [(topic, [(n, begin[topic, n], size) for n in numbers]) for topic, numbers in some.items()]
        answer = await client.send(leader, FetchRequest(0, 0, 2**30, isolation, topics))
        for topic, partitions in answer.topics:
            for partition, error, _, *rest in partitions:
                if not error and rest[-1]:
                    # Version 11 has the preferred replica between the two, of which the ones before know
                    # nothing.
                    aborted = rest[-3 if answer.API_VERSION >= 11 else -2]
                    found[topic, partition, begin[topic, partition]] = Fetched(rest[-1], aborted or ())

    places = [KafkaPartition(topic, partition) for topic, partition, _ in wanted]
    await asyncio.gather(*(of(leader, some) for leader, some in _by_leader(cluster, places).items()))
    return found
