"""States of streams, kept between uses: a long stream is folded once, then only its newer events."""

from collections import OrderedDict
from typing import Any

from chassis.decider import C, Decider, S
from chassis.store import WrongExpectedVersion


class StateCache:
    """At most `size` states; the least recently used one goes first. Deciders must not change states in place.

    A kept state is never out of date: it is the fold of committed events, which don't change, and whoever uses it
    reads those that came after its version. So only what is committed may be kept.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._kept: OrderedDict[str, tuple[Decider[Any, Any], int, Any]] = OrderedDict()

    def get(self, decider: Decider[S, C], stream_id: str) -> tuple[int, S]:
        """The version that is kept and its state; (0, the initial state) when none is."""
        kept = self._kept.get(stream_id)
        if kept is None or kept[0] is not decider:
            return 0, decider.initial
        self._kept.move_to_end(stream_id)
        return kept[1], kept[2]

    def keep(self, decider: Decider[S, C], stream_id: str, version: int, state: S) -> None:
        """Keep the state of a stream at a committed version."""
        self._kept[stream_id] = (decider, version, state)
        self._kept.move_to_end(stream_id)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def conflicted(self, conflict: WrongExpectedVersion) -> None:
        """An append on a kept state failed. Somebody was faster: the state stays, it only lacks newer events.

        But a stream that is shorter than we know has lost events (a failover to a replica that lagged), and its
        kept state with them.
        """
        if conflict.actual < conflict.expected:
            self._kept.pop(conflict.stream_id, None)
