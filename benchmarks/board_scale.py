"""What a pass of the board costs when Kafka is large: 1,000 partitions x 50 groups that read all of them.

    python -m benchmarks.board_scale [--topics 4] [--partitions 250] [--groups 50] [--passes 15]

Kafka is simulated by its answers: bytes as a broker sends them, through the client library's own structures.
Behind that everything is the board's own code: what is decoded, compared, measured, judged, written as JSON
and into the history. Making the answers is not measured, nor is the network. Medians of passes, in seconds of
processor time of one core:

    idle      nothing moved since the last pass, all have read everything
    traffic   every partition got 10 records, and every group committed in each to within 3 records of its end
    behind    half of the groups are gone with 10,000 records to read in each partition, the other half reads
              them, slowly
"""

import argparse
import asyncio
import gc
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.metadata import MetadataResponse_v5
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from board.__main__ import GARBAGE
from board.assemble import Assembler
from board.declared import Declared, Projection
from board.history import History
from board.history_writer import marks, samples
from board.kafka import Kafka
from board.observations import (
    AppliedRow,
    CheckpointRow,
    CopyRow,
    CursorRow,
    KafkaView,
    Seen,
    StoreView,
    Views,
)

VERSIONS = {1: (4, 4), 2: (2, 2), 3: (5, 12), 9: (3, 3), 15: (2, 2), 16: (1, 1)}
EPOCH = UUID(int=1)
BATCH = 16  # records that a fetch of a partition yields
DECLARED_TOPIC, OTHERS = "orders.events", "topic"


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def blob(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


@dataclass
class Cluster:
    """What there is: ends by topic, commits by group and topic, who is in a group."""

    topics: int
    partitions: int
    groups: int
    ends: dict[str, list[int]] = field(default_factory=dict)
    commits: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(5))

    def __post_init__(self) -> None:
        names = [DECLARED_TOPIC, *(f"{OTHERS}-{n}" for n in range(1, self.topics))]
        self.ends = {name: [100_000] * self.partitions for name in names}
        groups = ["stock-service.saga", *(f"group-{n}" for n in range(1, self.groups))]
        self.commits = {group: {name: list(ends) for name, ends in self.ends.items()} for group in groups}

    def idle(self) -> None:
        """Everybody has read everything."""
        for commits in self.commits.values():
            for topic, ends in self.ends.items():
                commits[topic] = list(ends)

    def traffic(self) -> None:
        """Ten records everywhere, and everybody has read nearly all of them."""
        self.ends = {topic: [end + 10 for end in ends] for topic, ends in self.ends.items()}
        some = self.chance.choices(range(4), k=self.partitions)
        for commits in self.commits.values():
            for topic, ends in self.ends.items():
                commits[topic] = [end - less for end, less in zip(ends, some, strict=True)]
            self.chance.shuffle(some)

    def behind(self) -> None:
        """Everybody waits, half of them forever."""
        self.ends = {topic: [end + 10 for end in ends] for topic, ends in self.ends.items()}
        self.dead = set(list(self.commits)[1::2])
        for group, commits in self.commits.items():
            for topic, ends in self.ends.items():
                if ends[0] - commits[topic][0] < 9000:
                    commits[topic] = [end - 10_000 for end in ends]
                elif group not in self.dead:
                    commits[topic] = [offset + 2 for offset in commits[topic]]


class Broker:
    """Answers as a broker does: bytes, decoded by the structures of the request. Stands in for aiokafka's
    client."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.offsets: dict[str, bytes] = {}
        self.log: dict[int, bytes] = {}
        self.members = self._members()
        self.batch = self._batch()
        self.all = MetadataResponse_v5.decode(self._metadata())
        self.metadata_bytes = self._metadata()

    def prepare(self) -> None:
        """Make the answers of the next pass."""
        self.offsets = {group: self._offset_fetch(group) for group in self.cluster.commits}
        self.log = {-1: self._log_ends(), -2: self._log_starts()}
        self.members = self._members()

    def get_random_node(self) -> int:
        return 1

    async def fetch_all_metadata(self) -> ClusterMetadata:
        cluster = ClusterMetadata()
        cluster.update_metadata(MetadataResponse_v5.decode(BytesIO(self.metadata_bytes)))
        return cluster

    async def send(self, _node: int, request: Any, **_: Any) -> Any:
        asked = request.prepare(VERSIONS)
        match asked.API_KEY:
            case 1:
                answer = self._fetched(asked)
            case 2:
                answer = self.log[asked.topics[0][1][0][1]]
            case 3:
                return type(
                    "Ids",
                    (),
                    {"topics": [(0, name, UUID(int=n + 1)) for n, name in enumerate(self.cluster.ends)]},
                )
            case 9:
                answer = self.offsets[asked.consumer_group]
            case 15:
                answer = self.members
            case 16:
                answer = self._listed()
        return asked.RESPONSE_TYPE.decode(BytesIO(answer))

    async def close(self) -> None: ...

    def _offset_fetch(self, group: str) -> bytes:
        parts = [struct.pack(">ii", 0, len(self.cluster.ends))]
        for topic, offsets in self.cluster.commits[group].items():
            parts += [text(topic), struct.pack(">i", len(offsets))]
            parts += [struct.pack(">iqhh", n, offset, 0, 0) for n, offset in enumerate(offsets)]
        return b"".join([*parts, struct.pack(">h", 0)])

    def _log_ends(self) -> bytes:
        return self._log(lambda end: end)

    def _log_starts(self) -> bytes:
        return self._log(lambda _: 0)

    def _log(self, offset: Callable[[int], int]) -> bytes:
        parts = [struct.pack(">ii", 0, len(self.cluster.ends))]
        for topic, ends in self.cluster.ends.items():
            parts += [text(topic), struct.pack(">i", len(ends))]
            parts += [struct.pack(">ihqq", n, 0, -1, offset(end)) for n, end in enumerate(ends)]
        return b"".join(parts)

    def _listed(self) -> bytes:
        groups = [text(group) + text("consumer") for group in self.cluster.commits]
        return struct.pack(">ihi", 0, 0, len(groups)) + b"".join(groups)

    def _members(self) -> bytes:
        half = self.cluster.partitions // 2
        halves = [
            ConsumerProtocolMemberAssignment(
                0, [(topic, list(some)) for topic in self.cluster.ends], b""
            ).encode()
            for some in (range(half), range(half, self.cluster.partitions))
        ]
        parts = [struct.pack(">ii", 0, len(self.cluster.commits))]
        for group in self.cluster.commits:
            dead = group in self.cluster.dead
            parts += [
                struct.pack(">h", 0),
                text(group),
                text("Empty" if dead else "Stable"),
                text("consumer"),
                text("range"),
            ]
            parts += [struct.pack(">i", 0 if dead else 2)]
            for n, assigned in enumerate(() if dead else halves):
                parts += [text(f"m-{n}"), text(f"client-{n}"), text("/10.0.0.1"), blob(b""), blob(assigned)]
        return b"".join(parts)

    def _metadata(self) -> bytes:
        broker = struct.pack(">i", 1) + text("localhost") + struct.pack(">ih", 9092, -1)
        parts = [
            struct.pack(">ii", 0, 1),
            broker,
            text("cluster"),
            struct.pack(">ii", 1, len(self.cluster.ends)),
        ]
        one = struct.pack(">iii", 1, 1, 1)[4:]
        for topic, ends in self.cluster.ends.items():
            parts += [struct.pack(">h", 0), text(topic), struct.pack(">bi", 0, len(ends))]
            nodes = struct.pack(">i", 1) + one[:4]
            parts += [
                struct.pack(">hii", 0, n, 1) + nodes + nodes + struct.pack(">i", 0) for n in range(len(ends))
            ]
        return b"".join(parts)

    def _fetched(self, asked: Any) -> bytes:
        parts = [struct.pack(">ii", 0, len(asked.topics))]
        for topic, partitions in asked.topics:
            parts += [text(topic), struct.pack(">i", len(partitions))]
            for n, offset, *_ in partitions:
                data = struct.pack(">q", offset) + self.batch[8:]
                parts += [struct.pack(">ihqqi", n, 0, 0, 0, 0), blob(data)]
        return b"".join(parts)

    def _batch(self) -> bytes:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        now = datetime.now(UTC)
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(UUID(int=7)).encode()),
            ("ce_type", b"dev.millrace.OrderCreated"),
            ("ce_source", b"/order-service"),
            ("ce_time", now.isoformat().encode()),
            ("ce_subject", b"order-1"),
            ("content-type", b"application/json"),
            ("millrace_version", b"1"),
            ("millrace_position", b"500000"),
            ("millrace_epoch", str(EPOCH).encode()),
            ("millrace_generation", b"1"),
        ]
        for n in range(BATCH):
            builder.append(n, int(now.timestamp() * 1000), b"order-1", b"x" * 400, headers)
        return bytes(builder.build())


class Stand(Kafka):
    """The board's poller on Kafka, with the broker above at the other end."""

    def __init__(self, broker: Broker) -> None:
        super().__init__("", [DECLARED_TOPIC])
        self._broker = broker

    async def client(self) -> Any:
        return self._broker


def stores(cluster: Cluster, at: float) -> Mapping[str, StoreView]:
    """A service whose topic it is, and one that hears it: with a row for each of its partitions."""
    now = datetime.now(UTC)
    ends = dict(enumerate(cluster.ends[DECLARED_TOPIC]))
    cursor = CursorRow(DECLARED_TOPIC, 1, 1000, 1, UUID(int=1), ends, 0, 0, None, leader=7)
    read_model = CheckpointRow("orders", 1, 1000, 0, None)
    copy = CopyRow("orders", 1, "live", None, now, now, now, 1000, building=False)
    rows = [
        AppliedRow("stock-service.saga", EPOCH, DECLARED_TOPIC, 1, n, 1000, offset, UUID(int=1))
        for n, offset in enumerate(cluster.commits["stock-service.saga"][DECLARED_TOPIC])
    ]
    return {
        "order": StoreView(
            "order", at, now, 0.002, 1000, now, None, EPOCH, 3, [cursor], [read_model], copies=[copy]
        ),
        "stock": StoreView("stock", at, now, 0.002, 1000, now, None, EPOCH, 3, applied=rows),
    }


class Clocked:
    """Seconds of processor time of each part, by pass: what else the machine does doesn't count."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.parts.setdefault(name, []).append(time.process_time() - began)


async def measure(
    cluster: Cluster, move: Callable[[], None], passes: int, history: History
) -> tuple[Clocked, int]:
    """Some passes, after as many that fill the window of the states."""
    declared = Declared({"order": DECLARED_TOPIC}, (
        Projection("order", "orders", "read model"),
        Projection("stock", "saga", "reaction", "stock-service.saga", (DECLARED_TOPIC,)),
    ))  # fmt: skip
    broker, clocked, size = Broker(cluster), Clocked(), 0
    poller, assembler = Stand(broker), Assembler(declared, datetime.now(UTC))
    began = time.monotonic()
    for number in range(2 * passes):
        move()
        broker.prepare()
        rows = stores(cluster, began + number)
        now = began + number  # as if a second had passed
        if number == passes:
            clocked = Clocked()
        with clocked.part("whole"):
            with clocked.part("Kafka"):
                seen = await poller.look(rows)
            with clocked.part("board"):
                board = assembler.board(views(rows, replace(seen, at=now), now), took=0.0)
            with clocked.part("JSON"):
                size = len(board.model_dump_json().encode())
            with clocked.part("history"):
                history.record(board.at.timestamp() + number, samples(board), marks(board))
    print(board.headline.text)
    return clocked, size


def views(rows: Mapping[str, StoreView], seen: KafkaView, now: float) -> Views:
    fresh = {"kafka": Seen(True, "", now), **{f"postgres-{name}": Seen(True, "", now) for name in rows}}
    return Views(now, datetime.now(UTC), rows, seen, fresh)


async def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    print(
        f"{options.topics * options.partitions:,} partitions in {options.topics} topics x {options.groups}"
        f" groups"
    )
    print(
        f"{'':<10}{'pass':>10}{'worst':>10}"
        + "".join(f"{part:>10}" for part in ("Kafka", "board", "JSON", "history"))
    )
    for name in ("idle", "traffic", "behind"):
        cluster = Cluster(options.topics, options.partitions, options.groups)
        with tempfile.TemporaryDirectory() as directory:
            history = History(Path(directory) / "history.sqlite")
            clocked, size = await measure(cluster, getattr(cluster, name), options.passes, history)
            history.close()
        parts = {part: median(seconds) * 1000 for part, seconds in clocked.parts.items()}
        worst = max(clocked.parts["whole"]) * 1000
        print(
            f"{name:<10}{parts['whole']:>7.0f} ms{worst:>7.0f} ms"
            + "".join(f"{parts[part]:>7.0f} ms" for part in ("Kafka", "board", "JSON", "history"))
            + f"   {size / 1e6:.1f} MB of JSON"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topics", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=250)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--passes", type=int, default=10)
    gc.set_threshold(*GARBAGE)
    asyncio.run(main(parser.parse_args()))
