"""A kind of stream, as a service declares it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent
from millrace.domain.snapshot_codec import SnapshotPolicy


@dataclass(frozen=True)
class StreamKind:
    """A kind of stream: the ids that begin with `prefix` (`order-`), folded by `decider`.

    `snapshots`: how its states are kept, for streams that grow without end; None: a few events are folded
    each time. `command_of`: the command that an event of it stands for, so that the event can be decided
    again behind events that were missing when it was appended (docs/lost-events.md); None when a person must
    look, REPEATED when a consumer decides it again by itself.
    """

    prefix: str
    decider: Decider[Any, Any]
    snapshots: SnapshotPolicy | None = None
    command_of: Callable[[DomainEvent], Any | None] = lambda _event: None
