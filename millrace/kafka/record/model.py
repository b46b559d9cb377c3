"""What goes into a record and what comes out of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from millrace.domain.events import RecordedEvent

Headers = list[tuple[str, bytes]]


class ConsumedRecord(Protocol):
    """What is read of a record that came from a topic; aiokafka's ConsumerRecord is one."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class ReadEvent(NamedTuple):
    """An event that was read from a record, and which store and topic the record claims to come from.

    `epoch` is the store's, `generation` the topic's, `source` the CloudEvents source (/order-service): empty
    when a record of format 1 has none, so that it equals no service's.
    """

    event: RecordedEvent
    epoch: UUID
    generation: int
    source: str


@dataclass(slots=True, unsafe_hash=True)
class Delivered:
    """An event as it came out of a topic, and from where. `record` is the raw record."""

    event: RecordedEvent
    topic: str
    partition: int
    offset: int
    epoch: UUID
    generation: int
    record: ConsumedRecord
