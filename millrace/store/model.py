"""What goes into the event store and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import OperationalError

from millrace.domain.errors import MillraceError
from millrace.domain.events import NewEvent

NO_STREAM = 0
"""Expected version of a stream that must not exist yet."""
ANY = -1
"""Expected version when it doesn't matter."""


@dataclass(frozen=True, slots=True)
class StreamAppend:
    """Events for the end of one stream, on condition that it is at `expected_version` (exact, NO_STREAM or
    ANY)."""

    stream_id: str
    expected_version: int
    events: Sequence[NewEvent]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the last event of a StreamAppend is.

    `replayed`: the same event ids were appended before, nothing was written, and this is the first result.
    Its `stream_id` is then the stream that they are in.
    """

    stream_id: str
    version: int
    position: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a store: the streams whose hash falls to `index` (0 to count - 1).

    Whole streams, about as many events in each. The hash is Postgres' own: the same on one server, not for
    ever.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard {self.index} of {self.count}: expected an index from 0 to count - 1")


class WrongExpectedVersion(MillraceError):
    """Somebody else appended to the stream. `actual` is its version (0: it does not exist)."""

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream_id} is at version {actual}, not {expected}")
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual


class EventIdsReused(MillraceError):
    """Some of the event ids are in the store already, but not just as one earlier append left them."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(
            f"some event ids of the append to {stream_id} are in the store already, others are not:"
            " repeat an append with all of its events unchanged, or give new events new ids"
        )
        self.stream_id = stream_id


class AppendTimeout(MillraceError, OperationalError):
    """The database did not answer in time. The events may be appended yet: repeat with the same events.

    An OperationalError, because that is what it is: transient, as millrace.postgres.database.is_transient
    says.
    """


class StoreRefuses(MillraceError, OperationalError):
    """Nothing may be appended now: the store is not what it was (docs/adr/0001-restored-stores.md).

    The message is the reason, for people. Transient: it passes once the store has been compared or restored.
    """

    SQLSTATE = "MR001"


class StoreUnverified(MillraceError, OperationalError):
    """The store has not been compared with its topic since its server started. Transient: the relay is about
    to."""

    def __init__(self) -> None:
        super().__init__(
            "the event store has not been compared with its topic since Postgres started: waiting for the"
            " relay"
        )


class StoreClosed(MillraceError, RuntimeError):
    """The event store is shutting down and takes no more appends."""
