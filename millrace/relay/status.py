"""What a relay is doing, as it says it: its states, and which fault leads to which."""

import time
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg
from aiokafka.errors import KafkaError

from millrace.postgres.leader import LeadershipLost
from millrace.relay.comparison import StoreBehind
from millrace.relay.leadership import CursorLocked
from millrace.relay.lost_topic import TopicLost
from millrace.relay.order import VersionGap
from millrace.relay.publisher import NotAcknowledged, TopicNotReady
from millrace.relay.refusal import RecordRefused


class RelayState(StrEnum):
    """What the relay is doing; `RelayStatus.detail` says why."""

    STARTING = "starting"
    STANDBY = "standby"
    RELAYING = "relaying"
    NO_DATABASE = "no database"
    WAITING = "waiting"
    NO_KAFKA = "no kafka"
    NO_TOPIC = "no topic"
    TOPIC_LOST = "topic lost"
    BLOCKED = "blocked"
    REFUSED = "refused"
    STORE_BEHIND = "store behind"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RelayStatus:
    """A snapshot for health pages. `position` and `fencing_token` are those of the last leadership here."""

    state: RelayState = RelayState.STARTING
    detail: str = ""
    position: int | None = None
    fencing_token: int | None = None
    unacknowledged: int = 0
    """Events that were sent to Kafka without an answer so far."""
    since: float = field(default_factory=time.monotonic)
    """When this status began (time.monotonic)."""


# Groups of states, for the relay.
OTHERS_LEAD = (RelayState.STARTING, RelayState.STANDBY, RelayState.STOPPED)
STUCK = (RelayState.BLOCKED, RelayState.REFUSED, RelayState.TOPIC_LOST, RelayState.STORE_BEHIND)
HELD_BY_AN_EVENT = (RelayState.BLOCKED, RelayState.REFUSED)
CALM = (RelayState.STARTING, RelayState.STANDBY, RelayState.RELAYING, RelayState.STOPPED)

# Whatever is not in here is a programming error and ends the process.
FAULTS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], RelayState], ...] = (
    (LeadershipLost, RelayState.STANDBY),
    (VersionGap, RelayState.BLOCKED),
    (RecordRefused, RelayState.REFUSED),
    (TopicNotReady, RelayState.NO_TOPIC),
    (TopicLost, RelayState.TOPIC_LOST),
    (StoreBehind, RelayState.STORE_BEHIND),
    ((KafkaError, NotAcknowledged, OSError), RelayState.NO_KAFKA),  # OSError includes TimeoutError
    (CursorLocked, RelayState.WAITING),
    (psycopg.Error, RelayState.NO_DATABASE),
)
RETRIED = tuple(kind for kinds, _ in FAULTS for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))

_SERVER_GONE = ("08", "57P")
"""Beginnings of the SQLSTATEs of a server that closes the connection, or does not take one."""


def state_for(fault: Exception) -> RelayState:
    """The state that a fault of FAULTS leads to. A database that answers, whatever it says, is one that is
    there."""
    if isinstance(fault, psycopg.Error) and fault.sqlstate and not fault.sqlstate.startswith(_SERVER_GONE):
        return RelayState.WAITING
    return next(state for kinds, state in FAULTS if isinstance(fault, kinds))
