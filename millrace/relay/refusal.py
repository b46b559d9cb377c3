"""Records that the broker refuses: which of a batch it is, why, and what a person does about it.

The broker takes a batch or refuses it as a whole, and does not name the record. So the records of a refused
batch are sent one per batch, until it is known which one it is. What was acknowledged meanwhile is not sent
again, and nothing is sent past the refused record: consumers drop what comes behind a later position of its
partition.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from aiokafka.errors import (
    BrokerResponseError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    kafka_errors,
)

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent

_OVERHEAD = 1024  # bytes that are kept free between a record and the limit that is recommended for it
_SMALLEST_BATCH = 4096  # bytes


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """The broker's rules forbid the record. aiokafka 0.14 does not know the code."""

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker and hence will be rejected."


kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSALS = (*_TOO_LARGE, InvalidTimestampError, InvalidRecordError)


def is_refusal(error: BaseException | None) -> bool:
    """Whether the broker judged the records themselves: the same records will be refused again."""
    return isinstance(error, _REFUSALS)


class RecordRefused(MillraceError):
    """The broker refused a batch. Nothing of that batch is in the topic."""

    def __init__(
        self,
        topic: str,
        events: Sequence[RecordedEvent],
        error: KafkaError,
        *,
        size: int,
        acknowledged: Collection[int] = (),
    ) -> None:
        """`events` are those of the batch, which has `size` bytes; none: a lineage record. `acknowledged`:
        the positions of the chunk that the broker did take."""
        super().__init__(_described(topic, events, error, size))
        self.events = events
        self.size = size
        self.acknowledged = acknowledged
        self.too_large = isinstance(error, _TOO_LARGE)

    @property
    def record(self) -> RecordedEvent | None:
        """The event that was refused; None as long as it may be any of several, or for a lineage record."""
        return self.events[0] if len(self.events) == 1 else None

    @property
    def is_found(self) -> bool:
        """Whether it is known which record is refused."""
        return len(self.events) <= 1


@dataclass(slots=True)
class Caution:
    """What a leader remembers of refusals, so that it sends only what is not in the topic yet. It ends with
    the leadership."""

    batch_bytes: int
    """Batches are no larger. Halved when records that were refused together are taken one by one."""
    suspects: Sequence[int] = ()
    """Positions of the batch that was refused last, all of one partition."""
    acknowledged: set[int] = field(default_factory=set)
    """Positions beyond the cursor."""
    _refused_size: int = 0

    @property
    def active(self) -> bool:
        """Whether there is anything to remember."""
        return bool(self.suspects or self.acknowledged)

    def next_of(self, chunk: Sequence[RecordedEvent]) -> tuple[Sequence[RecordedEvent], bool]:
        """What to send next of `chunk`, which begins behind the cursor; and whether each record is to be a
        batch of its own.

        First what stands before the suspects, then those; nothing behind them.
        """
        if not self.active:
            return chunk, False
        waiting = [event for event in chunk if event.position not in self.acknowledged]
        if not self.suspects:
            return waiting, False
        if before := [event for event in waiting if event.position < self.suspects[0]]:
            return before, False
        return [event for event in waiting if event.position in self.suspects], True

    def refused(self, refusal: RecordRefused) -> None:
        """A batch of what `next_of` returned was refused."""
        self.acknowledged.update(refusal.acknowledged)
        self.suspects = [event.position for event in refusal.events]
        self._refused_size = refusal.size if refusal.too_large and not refusal.is_found else 0

    def sent(self, events: Sequence[RecordedEvent], *, singly: bool) -> None:
        """What `next_of` returned was acknowledged."""
        if not self.active:
            return  # the whole chunk
        self.acknowledged.update(event.position for event in events)
        if singly:
            if self._refused_size:  # each of them is small enough; together they were not
                self.batch_bytes = max(_SMALLEST_BATCH, min(self.batch_bytes, self._refused_size) // 2)
            self.suspects, self._refused_size = (), 0

    def passed(self, chunk: Sequence[RecordedEvent], cursor: int) -> int:
        """The position up to which everything is in the topic. `chunk` begins behind `cursor`."""
        if not self.active:
            return chunk[-1].position
        for event in chunk:
            if event.position not in self.acknowledged:
                break
            cursor = event.position
        self.acknowledged = {position for position in self.acknowledged if position > cursor}
        return cursor


def _described(topic: str, events: Sequence[RecordedEvent], error: KafkaError, size: int) -> str:
    """One line with the reason and the remedy. Short: the board shows 200 characters of it."""
    if len(events) > 1:
        which = f"one of positions {events[0].position:,} to {events[-1].position:,}"
    elif events:
        which = f"position {events[0].position:,} ({events[0].event_type})"
    else:
        which = "a lineage record"
    if isinstance(error, _TOO_LARGE):
        limit = "max.message.bytes" if isinstance(error, MessageSizeTooLargeError) else "segment.bytes"
        setting = f"{limit}={size + _OVERHEAD}"
        return (
            f"{which} has {size:,} bytes, more than {limit}:"
            f" `kafka-configs.sh --alter --topic {topic} --add-config {setting}`"
        )
    if isinstance(error, InvalidTimestampError):
        return (
            f"{which}: {topic} refuses its timestamp: set this machine's clock, which is ahead of the"
            f" broker's, or raise"
            " message.timestamp.before.max.ms"
        )
    return f"{which}: {topic} refuses it ({error.__class__.message}): correct its settings (docs/relay.md)"
