"""Canaries (millrace/canary), as the board sees them: what was sent, who passed it and when. Pure but for the
statement's text.

Whether a canary has passed the end of a path is told by the positions that tell it of every event; when it
did is told by the row that its listener wrote in the same transaction. Both times are of the servers' clocks,
whose offsets from the board's are subtracted, so a round trip is as exact as these are (half a round trip to
each server); on a path within one database there is one clock.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from board import document, emails, formatting
from board.clocks import age_of, disagreement
from board.declared import Declared
from board.measures import MeasuredPath, clock_error, in_sight, store_clock
from board.observations import KafkaView, PassedCanary, SentCanary, StoreView, Views
from board.store_stages import newest_cursor
from millrace.canary.streams import canary_streams
from millrace.kafka.partitioning import partition_of
from schemas.topics import TOPICS

LOOK: LiteralString = """
SELECT json_build_object(
    'sent_canaries', (
        SELECT json_agg(json_build_object('stream_id', sent.stream_id, 'version', sent.version, 'position',
            sent.position,
                                          'sent_at', sent.recorded_at))
        FROM (
            SELECT last.* FROM unnest(%s::text[]) AS s (stream_id) CROSS JOIN LATERAL (
                SELECT e.stream_id, e.version, e.position, e.recorded_at FROM public.events e
                WHERE e.stream_id = s.stream_id ORDER BY e.version DESC LIMIT 1
            ) AS last
            UNION
            SELECT next.* FROM unnest(%s::text[], %s::int[]) AS w (stream_id, version) CROSS JOIN LATERAL (
                SELECT e.stream_id, e.version, e.position, e.recorded_at FROM public.events e
                WHERE e.stream_id = w.stream_id AND e.version = w.version LIMIT 1
            ) AS next
        ) AS sent
    ),
    'passed_canaries', (
        SELECT json_agg(json_build_object('listener', c.listener, 'stream_id', c.stream_id, 'version',
            c.version,
                                          'sent_at', c.sent_at, 'applied_at', c.applied_at))
        FROM public.canaries c
    )
)::text
"""
"""The last canary of each stream, those asked for by version, and what was passed. Parameters:
Question.parameters."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask a store: the streams of its canaries, and the first canary of each that somebody has not
    passed."""

    streams: Sequence[str] = ()
    behind: Sequence[tuple[str, int]] = ()

    @property
    def parameters(self) -> tuple[list[str], list[str], list[int]]:
        """Of LOOK."""
        return list(self.streams), [name for name, _ in self.behind], [version for _, version in self.behind]


NOTHING = Question()


def questions(
    stores: Mapping[str, StoreView], kafka: KafkaView | None, declared: Declared
) -> dict[str, Question]:
    """Service -> what to ask it next, after what was seen last."""
    noted = [row for store in stores.values() for row in store.passed_canaries]
    asked = {}
    for service, topic in declared.topics.items():
        streams = canary_streams(topic, _partitions(topic, kafka))
        store = stores.get(service)
        last = {row.stream_id: row.version for row in store.sent_canaries} if store else {}
        behind = {
            (row.stream_id, row.version + 1) for row in noted if row.version < last.get(row.stream_id, 0)
        }
        behind |= {(stream_id, 1) for stream_id in last}  # for who has passed none of its stream
        asked[service] = Question(streams, tuple(sorted(behind)))
    return asked


def _partitions(topic: str, kafka: KafkaView | None) -> int:
    view = kafka.topics.get(topic) if kafka else None
    if view is not None and view.ends:
        return len(view.ends)
    return next((one.partitions for one in TOPICS if one.name == topic), 0)


def canaries(views: Views, paths: Iterable[MeasuredPath]) -> list[document.Canary]:
    """One for each declared path whose service has ever sent a canary, in the order of the paths. No canary
    is mailed."""
    found = (_canary(path, views) for path in paths if path.declared and path.projection.name != emails.NAME)
    return [one for one in found if one is not None]


def _canary(path: MeasuredPath, views: Views) -> document.Canary | None:
    source, store = views.stores.get(path.source or ""), views.stores.get(path.projection.service)
    if source is None or store is None or not source.sent_canaries:
        return None
    seen = all(in_sight(views, f"postgres-{one.service}") for one in (source, store))
    now = store_clock(source.service, views.at, views)
    error = clock_error(source.service, views)
    # By position: a canary that was sent while the clock was ahead would be the newest for hours.
    newest = max(source.sent_canaries, key=lambda row: row.position).sent_at
    passed = _last_passed(path, source, store)
    waits = _oldest_waiting(path, source, store, views.kafka)
    took = _took(passed, source.service, store.service, views) if passed and seen else None
    waiting = age_of(waits.sent_at, now, error=error) if waits and seen else None
    if waiting is not None and took is not None and waiting > took:
        took = None  # the next one takes longer already: what the last one took says nothing any more
    age = age_of(newest, now, error=error) if seen else None
    said = waits or passed
    wrong = disagreement(waits.sent_at if waits else newest, now, error=error) if seen else None
    return document.Canary(
        path=path.id,
        service=path.projection.service,
        projection=path.projection.name,
        topic=path.topic,
        sent_at=said.sent_at if said else newest,
        age=age,
        round_trip=took,
        waiting=waiting,
        text=wrong or _text(took, waiting, age),
    )


def _oldest_waiting(
    path: MeasuredPath, source: StoreView, store: StoreView, kafka: KafkaView | None
) -> SentCanary | None:
    place = _place(path, source, store, kafka)
    waiting = (row for row in source.sent_canaries if row.position > place(row.stream_id))
    return min(waiting, key=lambda row: row.sent_at, default=None)


def _place(
    path: MeasuredPath, source: StoreView, store: StoreView, kafka: KafkaView | None
) -> Callable[[str], int]:
    """Stream -> the position up to which the end of the path has passed what is in its partition."""
    if path.topic is None:
        wanted = (path.projection.name, path.version)
        own = (row.position for row in store.checkpoints if (row.read_model, row.version) == wanted)
        position = max(own, default=0)
        return lambda _stream_id: position
    cursor, partitions = newest_cursor(source, path.topic), _partitions(path.topic, kafka)
    passed = {
        row.partition: row.position
        for row in store.applied
        if (row.consumer, row.topic, row.epoch) == (path.group, path.topic, source.epoch)
        and (cursor is None or row.generation == cursor.generation)
    }
    return lambda stream_id: passed.get(partition_of(stream_id.encode(), partitions), 0) if partitions else 0


def _last_passed(path: MeasuredPath, source: StoreView, store: StoreView) -> PassedCanary | None:
    listener = path.group if path.topic else f"{path.projection.name}_v{path.version}"
    streams = {row.stream_id for row in source.sent_canaries}
    mine = (row for row in store.passed_canaries if row.listener == listener and row.stream_id in streams)
    return max(mine, key=lambda row: row.sent_at, default=None)


def _took(passed: PassedCanary, source: str, reader: str, views: Views) -> float:
    """From the commit in the one database to the transaction in the other, by the board's clock."""
    there, _ = views.clocks.get(source, (0.0, 0.0))
    here, _ = views.clocks.get(reader, (0.0, 0.0))
    return max(0.0, (passed.applied_at - passed.sent_at).total_seconds() - (here - there))


def _text(took: float | None, waiting: float | None, age: float | None) -> str:
    """For people: `arrived in 84 ms, sent 3.1 s ago`."""
    if age is None:
        return "can't see"
    if took is not None:
        return f"arrived in {_short(took)}, the last one was sent {formatting.duration(age)} ago"
    return (
        f"waits for {formatting.duration(waiting)}" if waiting is not None else "arrived, nobody knows when"
    )


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else formatting.duration(seconds)
