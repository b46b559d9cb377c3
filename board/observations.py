"""What was seen, as it was seen: no ages, no judgements. `board.path` makes ages of it.

`at` is always the board's monotonic clock. Times with a date are those of the server that said them.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal
from uuid import UUID

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class EventRef:
    """The first event behind a place, without its data.

    `age`: seconds since the commit of the oldest event behind that place (of the first 1,001), by the clock
    of their store; None if all of them are of the future.
    """

    position: int
    stream_id: str
    version: int
    event_id: str
    type: str
    recorded_at: datetime
    age: float | None


@dataclass(frozen=True, slots=True)
class CursorRow:
    """A relay's row, with the first event behind it, how many there are, and who holds the relay's lock."""

    topic: str
    generation: int
    position: int
    fencing_token: int
    topic_id: UUID | None
    end_offsets: Mapping[int, int]
    republish_until: int
    pending: int
    oldest: EventRef | None
    leader: int | None = None
    standing_by: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """How far a read model of the service's store is, with the first event behind it."""

    read_model: str
    version: int
    position: int
    pending: int
    oldest: EventRef | None


@dataclass(frozen=True, slots=True)
class AppliedRow:
    """How far a consumer is in one partition. `next_offset` is an offset of the topic `topic_id`."""

    consumer: str
    epoch: UUID
    topic: str
    generation: int
    partition: int
    position: int
    next_offset: int
    topic_id: UUID | None


@dataclass(frozen=True, slots=True)
class BeginningRow:
    """From where on a consumer with effects acts on a topic. `begins` was fixed at `begun_at`; `declared` is
    what its program says now. `position`: up to there events count as seen; 0: none, or it begins with the
    history."""

    consumer: str
    topic: str
    begins: Literal["history", "now"]
    declared: Literal["history", "now"]
    begun_at: datetime
    position: int


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A copy of a read model; `position` and `consumer` tell how far it is. `building`: a session works on
    it."""

    model: str
    version: int
    copy: str
    consumer: str | None
    began_at: datetime
    built_at: datetime | None
    since: datetime
    position: int
    building: bool


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A parked stream: the first of its events, how many there are, and for how long."""

    consumer: str
    stream_id: str
    events: int
    age: float
    event_type: str | None
    error_class: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class ParkedCount:
    """Parked streams by consumer and kind of error; all of them, while `parked` holds the oldest ones."""

    consumer: str
    error_class: str
    streams: int
    events: int
    oldest: float


@dataclass(frozen=True, slots=True)
class StallRow:
    """What a worker says it can't get past: at an offset of the topic `topic_id`, or at a position. `error`:
    one line.

    since, last   seconds since it failed there for the first and for the last time; `last` is negative if the
                  clock was ahead then
    """

    worker: str
    topic: str
    partition: int
    position: int
    topic_id: UUID | None
    event_type: str | None
    stream_id: str | None
    attempts: int
    error: str
    since: float
    last: float


@dataclass(frozen=True, slots=True)
class SentCanary:
    """A canary in the store that sends it."""

    stream_id: str
    version: int
    position: int
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class PassedCanary:
    """The last canary of a stream that a listener passed. `sent_at` is by the sender's clock, `applied_at` by
    its own."""

    listener: str
    stream_id: str
    version: int
    sent_at: datetime
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can be appended to a store (millrace/migrations/0012_store_state.sql,
    0019_owner_appends.sql).

    behind   its topic holds events that it lacks; else its server is another one, and was not compared with
             the topic
    age      seconds since that was noted; None: nobody notes when a server moves
    held     neither of both: commands wait, because somebody holds the append lock
    """

    behind: bool
    reason: str
    age: float | None
    held: bool = False


@dataclass(frozen=True, slots=True)
class WaitingEmail:
    """An e-mail that is to be sent now. `age`: seconds since it was to be sent; `reason`: of the last
    attempt, a word."""

    notification_id: str
    position: int
    requested_at: datetime
    age: float
    attempts: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class EmailsRow:
    """How many e-mails are to be sent now, the oldest one, the last outage met, and the sessions of those who
    send."""

    waiting: int
    oldest: WaitingEmail | None
    reason: str | None
    senders: int


@dataclass(frozen=True, slots=True)
class StoreView:
    """One service's database, in one snapshot.

    at             when it was read (the middle of the round trip)
    clock          the server's clock then
    round_trip     seconds; half of it is how wrong `clock` can be
    sessions       how many connections the service itself has
    """

    service: str
    at: float
    clock: datetime
    round_trip: float
    head: int
    head_at: datetime | None
    first: EventRef | None = None  # of the store: what somebody who never began waits at
    epoch: UUID | None = None
    sessions: int = 0
    cursors: Sequence[CursorRow] = ()
    checkpoints: Sequence[CheckpointRow] = ()
    applied: Sequence[AppliedRow] = ()
    beginnings: Sequence[BeginningRow] = ()
    copies: Sequence[CopyRow] = ()
    rebuilding: Sequence[AppliedRow] = ()  # of the copies that topics feed and that are being built
    parked: Sequence[ParkedRow] = ()
    parked_counts: Sequence[ParkedCount] = ()
    stalls: Sequence[StallRow] = ()
    emails: EmailsRow | None = None  # of a service that sends them
    sent_canaries: Sequence[SentCanary] = ()
    passed_canaries: Sequence[PassedCanary] = ()
    refusal: Refusal | None = None  # None: it may be appended to
    lost_streams: int = 0  # of which its consumers hold effects of lost events that nobody has released


@dataclass(frozen=True, slots=True)
class RecordHead:
    """A record without its value. What its headers don't say is None; `timestamp` is Kafka's, in seconds.

    A record that can't be read at all has no timestamp either.
    """

    offset: int
    timestamp: float | None
    committed_at: datetime | None = None
    position: int | None = None
    epoch: UUID | None = None
    generation: int | None = None
    stream_id: str | None = None
    version: int | None = None
    event_id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class TopicView:
    """A log: where its partitions start and end.

    held   partitions that nobody who reads what is committed can read to their end, with the offset (the last
           stable one)
           from which on an open transaction keeps the records back
    """

    id: UUID | None
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    held: Mapping[int, int] = field(default_factory=dict)


@lru_cache(maxsize=4096)  # an assignment seldom changes, and a set remembers its hash
def numbers_by_topic(partitions: frozenset[TopicPartition]) -> Mapping[str, Sequence[int]]:
    """Topic -> its partitions, ascending."""
    topics: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        topics.setdefault(topic, []).append(number)
    return topics


@dataclass(frozen=True, slots=True)
class MemberView:
    """Who is in a group, and what it was assigned."""

    id: str
    client: str
    host: str
    partitions: frozenset[TopicPartition] = frozenset()


@dataclass(frozen=True, slots=True)
class GroupView:
    """A consumer group: Kafka's word for its state, who is in it, what it committed."""

    state: str
    members: Sequence[MemberView] = ()
    commits: Mapping[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KafkaView:
    """Commits were read first, then the ends: no group is beyond the end of a log for being read later.

    heads      the records at the offsets that `board.log_stages.wanted_records` asked for, or the next one
               that a
               consumer is given; what was not read yet is missing
    drained    those of the offsets behind which there is nothing up to the end that a consumer is given: only
               transaction
               markers, and records of aborted transactions
    first_new  for a consumer whose next record is one that it has applied already: the first that it has not;
    None: there
               is none up to the end. Missing while that isn't known
    """

    at: float
    round_trip: float
    topics: Mapping[str, TopicView] = field(default_factory=dict)
    groups: Mapping[str, GroupView] = field(default_factory=dict)
    heads: Mapping[tuple[str, int, int], RecordHead] = field(default_factory=dict)
    first_new: Mapping[tuple[str, str, int, int], RecordHead | None] = field(default_factory=dict)
    drained: Set[tuple[str, int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """A source: what was seen last, whether that was in this pass, and if not, why."""

    fresh: bool
    problem: str = ""
    at: float | None = None  # monotonic; None: never seen


@dataclass(frozen=True, slots=True)
class Views:
    """One pass: the last view of each source, fresh or not.

    at      the board's monotonic clock; `wall` is its wall clock at the same moment
    clocks  service -> seconds that its server's clock is ahead of the board's, and how wrong that can be
    """

    at: float
    wall: datetime
    stores: Mapping[str, StoreView]
    kafka: KafkaView | None
    seen: Mapping[str, Seen]  # "kafka", "postgres-order" ...
    clocks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
