"""The JSON of the board: what /board.json, the stream of the page, `millrace lag --json` and /path/{id} say.

Times are UTC; durations are seconds; a rate is events a second. What nobody knows is null: never a 0 that
looks like a fact. Nothing here comes from the data of an event, nor from who asked for it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class State(StrEnum):
    """How a stage or a partition is. `board.states` says when it is which."""

    UP_TO_DATE = "UP_TO_DATE"  # what was there a moment ago has passed
    WARMING_UP = "WARMING_UP"  # something waits, and the board has not looked for long enough to say more
    CATCHING_UP = "CATCHING_UP"  # it moves, and faster than events come
    REBALANCING = "REBALANCING"  # the group is distributing its partitions
    MOVED_BACK = "MOVED_BACK"  # the committed offset went back, and is not yet where it was
    FALLING_BEHIND = "FALLING_BEHIND"  # it moves, but events come faster
    AHEAD = "AHEAD"  # committed beyond the end: of another topic, or of a log that lost its end
    NOT_STARTED = "NOT_STARTED"  # never committed: counted from the start of the log
    STOPPED = "STOPPED"  # something waits, and nobody is there to take it
    STUCK = "STUCK"  # something waits, somebody is there, and it does not move
    LOSING_DATA = "LOSING_DATA"  # records that it has not seen are gone from the topic
    # the store takes no commands: it went back, it moved and was not compared, or its append lock is held
    SUSPENDED = "SUSPENDED"
    CANT_SEE = "CANT_SEE"  # the numbers are those of `as_of`


class StageKind(StrEnum):
    """The way of an event. A read model of the service's store has STORE and READ_MODEL only."""

    STORE = "store"
    RELAY = "relay"
    TOPIC = "topic"
    CONSUMER = "consumer"  # offsets that the group committed to Kafka
    READ_MODEL = "read model"  # what the rows in the database say, whatever was committed to Kafka


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Eta(_Part):
    """Seconds until it has caught up. `high` is null when the slow end of the range never would; else it is
    not below `low`."""

    low: float = Field(ge=0)
    high: float | None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.high is not None and self.high < self.low:
            raise ValueError(f"{self.low} to {self.high} s is no range")
        return self


class HeldEvent(_Part):
    """The oldest event that has not passed. What could not be read of a record is null.

    `transaction_at`: nothing from this offset on can be read, because another producer has a transaction open
    there.
    """

    type: str | None
    stream_id: str | None
    version: int | None = None
    event_id: str | None = None
    position: int | None = None
    committed_at: datetime | None = None
    waiting: float | None = None
    attempts: int | None = None
    error: str | None = None
    transaction_at: int | None = None


class Partition(_Part):
    """One partition of a stage. Of a consumer `passed` is the committed offset; of a read model the next one
    to apply."""

    partition: int
    state: State
    text: str  # the state in words, for people
    age: float | None  # seconds of the oldest event that has not passed; 0: there is none
    pending: int | None
    rate_in: float | None = None
    rate_out: float | None = None
    passed: int | None = None
    log_start: int | None = None
    log_end: int | None = None
    member: str | None = None  # who has it: client id and host
    since: float | None = None  # in this state for so many seconds, as far as the board knows
    eta: Eta | None = None
    event: HeldEvent | None = None


class Stage(_Part):
    """One box of a path. `age` and `pending` are of events that came as far as here and have not passed."""

    kind: StageKind
    name: str  # the service whose store or relay it is, the topic, the group, the read model
    state: State
    text: str
    age: float | None
    pending: int | None
    at_least: bool = False  # that many wait at least: nobody counted further
    ended: bool = False  # the process of its service is gone
    rate_in: float | None = None
    rate_out: float | None = None
    slowest: bool = False  # the path is held up here
    since: float | None = None
    as_of: datetime | None = None  # when the numbers were seen
    head: int | None = (
        None  # store: its last position; relay, read model of the service's store: how far it has come
    )
    eta: Eta | None = None
    event: HeldEvent | None = None
    partitions: list[Partition] = Field(default_factory=list)
    partition_count: int = 0  # more than are listed: those are the worst ones (board/bulk_groups.py)


class Beginning(_Part):
    """From where on a reaction acts on the events of its topic: fixed at its first start, and kept."""

    begins: Literal["history", "now"]
    begun_at: datetime
    position: int  # events up to here count as seen; 0: none, or it began with the history
    text: str


class Path(_Part):
    """From a store to one read model, or to one reaction (a saga, e-mails): a row of the page."""

    id: str  # <service>/<projection>, or <service>/<projection>/<topic> when it hears several topics
    declared: bool = (
        True  # false: a group that is in Kafka, and in no service; it is shown, and is not in the answer
    )
    service: str
    projection: str
    kind: Literal["read model", "reaction"]
    version: int | None  # of the read model that is live
    source: str | None  # the service whose events they are; null: of a topic that nobody declared
    topic: str | None
    group: str | None
    beginning: Beginning | None = None  # of a reaction that has started
    state: State
    text: str
    age: float | None  # seconds behind the truth: the oldest event that has not reached the end of the path
    pending: int | None
    at_least: bool = False  # that many wait at least: nobody counted further
    net_rate: float | None = (
        None  # how fast `pending` grows; negative: it falls; null also while it is a lower bound
    )
    eta: Eta | None = None
    held_at: StageKind | None = None
    parked_streams: int = 0
    conflicting_streams: int = 0  # of the parked ones: same version, another event
    foreign_records: int = 0  # of the parked ones: records that no relay of ours sent
    stages: list[Stage]


class Source(_Part):
    """A server that the board looks at, and its clock against the board's (positive: it is ahead)."""

    name: str  # kafka, postgres-order ...
    seen: bool  # in the last pass
    as_of: datetime | None
    age: float | None
    problem: str = ""
    round_trip: float | None = None
    clock_offset: float | None = None
    clock_error: float | None = None


class Store(_Part):
    """An event store that was seen in the last pass: whether it takes commands.

    refuses       null while it takes them; behind: its topic has events that it lacks; moved: its server is
                  another one, and
                  it was not compared with its topic; held: commands wait, because a session holds the append
                  lock
    lost_streams  streams of which its consumers hold effects of events that are lost for good
    """

    service: str
    topic: str | None  # that has its events; null: none is declared
    refuses: Literal["behind", "moved", "held"] | None
    reason: str  # why, in the store's own words; "" while it takes commands
    since: float | None  # commands have been refused for so many seconds, as far as the board knows
    lost_streams: int


class Relay(_Part):
    """Who sends a service's events to its topic."""

    service: str
    topic: str
    leader: int | None  # pid of its session in Postgres; null: nobody leads
    standing_by: int
    fencing_token: int
    position: int
    head: int
    republish_until: int | None  # somebody has the topic filled again, up to here


class Topic(_Part):
    """A log. `margin`: records between its start and the slowest group, the smallest of all partitions."""

    name: str
    id: str | None
    exists: bool
    log_starts: dict[int, int]
    log_ends: dict[int, int]
    rate: float | None
    margin: int | None


class Member(_Part):
    """Of a consumer group: a process. Names come from anyone who connects; treat them as text."""

    id: str
    client: str
    host: str
    partitions: dict[str, list[int]]


class Group(_Part):
    """A consumer group as Kafka knows it, also one that nobody declared or that died."""

    name: str
    service: str | None
    state: str  # Kafka's word: Stable, Empty, PreparingRebalance, CompletingRebalance, Dead; "" when unknown
    members: list[Member]
    rebalances: int  # that the board saw


class ParkedErrors(_Part):
    """Streams that a consumer put aside for one kind of error."""

    service: str
    consumer: str
    error_class: str
    streams: int
    events: int
    oldest: float


class ParkedStream(_Part):
    """A parked stream; type, error and attempts are those of its first event."""

    service: str
    consumer: str
    stream_id: str
    events: int
    oldest: float
    event_type: str | None
    error_class: str
    error: str  # its first line
    attempts: int


class Build(_Part):
    """A copy of a read model that is being built beside the live one, or waits."""

    service: str
    model: str
    version: int
    copy_: Literal["next", "previous"] = Field(alias="copy", serialization_alias="copy")
    building: bool  # somebody works on it now
    built: bool
    began_at: datetime
    position: int
    fraction: float | None
    rate: float | None
    eta: Eta | None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Mark(_Part):
    """Something that happened: a rebalance, a new leader, a topic that was replaced, a store that refuses
    commands."""

    at: datetime
    kind: Literal["rebalance", "leader", "topic", "moved back", "take-over", "source", "store"]
    subject: str
    text: str


class Canary(_Part):
    """An event of no domain, sent every few seconds to see it arrive at the end of the path."""

    path: str
    service: str
    projection: str
    topic: str | None
    sent_at: datetime  # the one that waits longest, or else the last one that arrived
    age: float | None  # seconds since the last one was sent; null: can't see
    round_trip: (
        float | None
    )  # of the last one that arrived; null: the next one takes longer already, or nobody can see
    waiting: float | None  # the oldest one that has not arrived; null: none waits, or nobody can see
    text: str


class Headline(_Part):
    """The one sentence. `age`: of the oldest data that it rests on."""

    text: str
    state: State
    as_of: datetime
    age: float


class Board(_Part):
    """Everything, as of one pass."""

    at: datetime
    passed_at: datetime | None = None  # the last pass that ended well; null: this one (board/blind.py)
    started_at: datetime
    number: int  # of the last pass that ended well, from 1
    took: float  # seconds that the pass took
    headline: Headline
    sources: list[Source]
    paths: list[Path]
    relays: list[Relay]
    topics: list[Topic]
    groups: list[Group]
    parked: list[ParkedErrors]
    parked_streams: list[ParkedStream]  # the oldest ones
    builds: list[Build]
    marks: list[Mark]  # the latest ones, oldest first
    canaries: list[Canary] = Field(default_factory=list)  # of the paths whose services send some
    stores: list[Store] = Field(default_factory=list)


class Hop(_Part):
    """An event and a stage: passed, waiting, or not known. `at`: when; for what the board saw, to within a
    pass."""

    kind: StageKind
    name: str
    path: str | None  # the path's id; null for the store and the relay, which all paths share
    state: Literal["passed", "waiting", "parked", "unknown"]
    at: datetime | None
    waiting: float | None
    text: str


class TracedEvent(_Part):
    """An event on its way."""

    service: str
    event_id: str
    stream_id: str
    version: int
    type: str
    position: int
    committed_at: datetime
    correlation_id: str | None
    topic: str | None
    partition: int | None
    hops: list[Hop]


class EventTrace(_Part):
    """The answer to "where is my event?": everything that belongs to an id, oldest first."""

    id: str
    at: datetime
    text: str
    complete: bool  # every store could be asked, and nothing was cut off
    events: list[TracedEvent]
