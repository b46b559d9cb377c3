"""When a stage crossed a position, as far as the board looked: positions of the last minutes, with when each
was first seen.

A position says what has passed, and no time. So each pass of the board notes which stages moved. What lies
between two passes crossed between them, and gets the time of the second one, which is right to within a pass.
What moved while the board did not look has no time.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from board.observations import StoreView, Views

KEPT = 200_000
"""Moves that are remembered, of all together; each of a few has KEPT_EACH, each of very many has fewer."""
KEPT_EACH = 1000
LOOKED = 5.0
"""Seconds from one look to the next, beyond which nobody can say when something between them happened."""

Key = tuple[object, ...]


def relay_key(service: str, topic: str) -> Key:
    return ("relay", service, topic)


def model_key(service: str, model: str, version: int | None) -> Key:
    return ("model", service, model, version)


def consumer_key(service: str, consumer: str, epoch: UUID | None, topic: str, partition: int) -> Key:
    return ("consumer", service, consumer, epoch, topic, partition)


@dataclass(slots=True)
class _Track:
    looked: datetime
    position: int
    moves: deque[tuple[int, datetime]] = field(
        default_factory=deque
    )  # ascending: where it was then for the first time
    floor: int = 0  # up to here nobody knows when


class CrossingTimes:
    """The positions of all stages. Call `observe` once per pass, and `when` as often as needed."""

    def __init__(self) -> None:
        self._tracks: dict[Key, _Track] = {}
        self._looked: dict[str, datetime] = {}

    def observe(self, views: Views) -> None:
        """Only what was seen in this pass counts."""
        each = max(4, min(KEPT_EACH, KEPT // max(1, len(self._tracks))))
        for service, store in views.stores.items():
            seen = views.seen.get(f"postgres-{service}")
            if seen is not None and seen.fresh:
                at = views.wall + timedelta(seconds=store.at - views.at)
                before = self._looked.get(service)
                for key, position in _places(service, store):
                    self._note(key, position, at, each, before)
                self._looked[service] = at

    def when(self, key: Key, position: int) -> datetime | None:
        """When the board first saw that `position` had been passed; None when it did not look just before."""
        track = self._tracks.get(key)
        if track is None or position <= track.floor or position > track.position:
            return None
        found = bisect_left(track.moves, position, key=lambda move: move[0])
        return next(islice(track.moves, found, None))[1]

    def _note(self, key: Key, position: int, at: datetime, each: int, before: datetime | None) -> None:
        track = self._tracks.get(key)
        if track is None:  # who was not there at the last look was at the beginning
            track = self._tracks[key] = _Track(before or at, 0)
            if before is None:
                track.floor = track.position = position
        if position < track.position or (position > track.position and _apart(track.looked, at)):
            track.moves.clear()  # moved back, or nobody looked
            track.floor = position
        elif position > track.position:
            track.moves.append((position, at))
            while len(track.moves) > each:
                track.floor, _ = track.moves.popleft()
        track.looked, track.position = at, position


def _apart(before: datetime, at: datetime) -> bool:
    return (at - before).total_seconds() > LOOKED


def _places(service: str, store: StoreView) -> Iterator[tuple[Key, int]]:
    for cursor in store.cursors:
        yield relay_key(service, cursor.topic), cursor.position
    for model in store.checkpoints:
        yield model_key(service, model.read_model, model.version), model.position
    for row in store.applied:
        yield consumer_key(service, row.consumer, row.epoch, row.topic, row.partition), row.position
