"""What a group committed, decoded by ourselves and only if it moved: 50 groups that read 1,000 partitions are
50,000 offsets.

The client library's structures take 15 µs for each of them. Here an answer whose bytes are those of the last
pass is not decoded at all, so that anyone who works with it sees that it is the same object; else a partition
takes less than a microsecond. The answer is that of
https://kafka.apache.org/protocol.html#The_Messages_OffsetFetch, version 3.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from struct import Struct

from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest_v3
from aiokafka.protocol.types import Schema

from board.observations import TopicPartition

_SHORT, _INT = Struct(">h"), Struct(">i")
_OFFSET = Struct(">iqh")  # partition, offset, length of the metadata (-1: none)


class Commits(Mapping[TopicPartition, int]):
    """(topic, partition) -> committed offset; `topics` holds the same as topic -> partition -> offset."""

    __slots__ = ("topics",)

    def __init__(self, topics: Mapping[str, Mapping[int, int]]) -> None:
        self.topics = topics

    def __getitem__(self, place: TopicPartition) -> int:
        return self.topics[place[0]][place[1]]

    def __iter__(self) -> Iterator[TopicPartition]:
        return ((topic, partition) for topic, offsets in self.topics.items() for partition in offsets)

    def __len__(self) -> int:
        return sum(map(len, self.topics.values()))


def by_topic(commits: Mapping[TopicPartition, int]) -> Mapping[str, Mapping[int, int]]:
    """Topic -> partition -> offset, of whatever mapping it is."""
    if isinstance(commits, Commits):
        return commits.topics
    topics: dict[str, dict[int, int]] = {}
    for (topic, partition), offset in commits.items():
        topics.setdefault(topic, {})[partition] = offset
    return topics


class _Undecoded(Response):  # type: ignore[misc]  # aiokafka has no types
    """The answer as its bytes."""

    API_KEY = 9
    API_VERSION = 3
    SCHEMA = Schema()

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read()


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 3
    RESPONSE_TYPE = _Undecoded
    SCHEMA = OffsetFetchRequest_v3.SCHEMA


class OffsetFetch(Request[_Request]):  # type: ignore[misc]
    """Everything that a group committed; the answer is bytes, for `Decoder`."""

    API_KEY = 9

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_Request]) -> _Request:
        return request_struct_class(self._group, None)


class Decoder:
    """Remembers each group's last answer."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[bytes, Commits]] = {}

    def commits(self, group: str, answer: bytes) -> Commits:
        """The same object as in the last pass when nothing was committed since. Raises KafkaError."""
        last = self._last.get(group)
        if last is None or last[0] != answer:
            last = self._last[group] = (answer, decoded(answer))
        return last[1]

    def keep(self, groups: Mapping[str, object]) -> None:
        """Forget all others."""
        self._last = {group: last for group, last in self._last.items() if group in groups}


def decoded(answer: bytes) -> Commits:
    """What the broker said. Partitions that nothing was committed to are left out. Raises KafkaError."""
    (error,) = _SHORT.unpack_from(answer, len(answer) - 2)
    if error:
        raise for_code(error)("committed offsets")
    topics: dict[str, dict[int, int]] = {}
    (count,) = _INT.unpack_from(answer, 4)  # behind the time that the broker held the answer back
    at = 8
    for _ in range(count):
        (length,) = _SHORT.unpack_from(answer, at)
        name = answer[at + 2 : at + 2 + length].decode()
        at += 2 + length
        offsets, at = _partitions(answer, at)
        if offsets:
            topics[name] = offsets
    return Commits(topics)


def _partitions(answer: bytes, at: int) -> tuple[dict[int, int], int]:
    (count,) = _INT.unpack_from(answer, at)
    at += 4
    offsets: dict[int, int] = {}
    read, short = _OFFSET.unpack_from, _SHORT.unpack_from
    for _ in range(count):
        partition, offset, metadata = read(answer, at)
        at += 14 + metadata if metadata > 0 else 14
        if offset >= 0 and not short(answer, at)[0]:
            offsets[partition] = offset
        at += 2
    return offsets, at
