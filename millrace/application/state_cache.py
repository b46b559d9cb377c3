"""States of streams, kept between uses: a long stream is folded once, then only its newer events."""

from collections import OrderedDict
from typing import Any, Generic, NamedTuple
from uuid import UUID

from millrace.domain.decider import C, Decider, S
from millrace.store import WrongExpectedVersion


class Kept(NamedTuple, Generic[S]):
    """A state at a version of its stream, and the event at that version. Version 0: the initial state, no
    event."""

    version: int
    state: S
    event_id: UUID | None = None

    @property
    def read_after(self) -> int:
        """From which version on the stream is read to use the state: the event that it ends with comes back
        first."""
        return max(self.version - 1, 0)


class StateCache:
    """At most `size` states; the least recently used one goes first. Deciders must not change states in
    place.

    A kept state is the fold of committed events, which don't change, and its user reads those that came after
    its version. So only what is committed may be kept. A store can go back, though, and grow again with other
    events: so the event that a state ends with is read as well, and a state whose event is another one is
    dropped (loading.py).
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._kept: OrderedDict[str, tuple[Decider[Any, Any], Kept[Any]]] = OrderedDict()

    def get(self, decider: Decider[S, C], stream_id: str) -> Kept[S]:
        """What is kept of a stream; version 0 with the initial state when nothing is."""
        found = self._kept.get(stream_id)
        if found is None or found[0] is not decider:
            return Kept(0, decider.initial)
        self._kept.move_to_end(stream_id)
        return found[1]

    def keep(self, decider: Decider[S, C], stream_id: str, version: int, state: S, event_id: UUID) -> None:
        """Keep the state of a stream at a committed version, which `event_id` is the event of."""
        self._kept[stream_id] = (decider, Kept(version, state, event_id))
        self._kept.move_to_end(stream_id)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def drop(self, stream_id: str) -> None:
        """Its state is not the stream's."""
        self._kept.pop(stream_id, None)

    def conflicted(self, conflict: WrongExpectedVersion) -> None:
        """An append on a kept state failed. Somebody was faster: the state stays, it only lacks newer events.

        But a stream that is shorter than we know has lost events (a failover to a replica that lagged), and
        its kept state with them.
        """
        if conflict.actual < conflict.expected:
            self.drop(conflict.stream_id)
