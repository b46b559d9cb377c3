"""Loading streams: from the state in memory, from a snapshot, or from the first event; then whatever is
newer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import Kept, StateCache
from millrace.domain.decider import C, Decider, S
from millrace.domain.events import RecordedEvent
from millrace.domain.snapshot_codec import SnapshotCodec
from millrace.postgres.database import Connection
from millrace.store import EventStore
from millrace.store.snapshot_rows import Snapshot


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """A stream's state at `version`, folded on from its state at `base` (0: from the start)."""

    state: S
    version: int
    base: int


async def load_states(
    store: EventStore,
    decider: Decider[S, C],
    stream_ids: Iterable[str],
    *,
    cache: StateCache,
    snapshots: Snapshots | None = None,
    connection: Connection | None = None,
) -> dict[str, Loaded[S]]:
    """The streams as they are now, read with one statement, and kept in `cache`.

    A transaction that appended to them must not come here with a cache: only what is committed may be kept. A
    snapshot that can't be decoded costs one more statement.
    """
    kept = {stream_id: cache.get(decider, stream_id) for stream_id in stream_ids}
    loaded = await _load(store, decider, kept, cache, snapshots, connection)
    # A store that went back and grew again: such a state is folded from the start.
    if lost := [stream_id for stream_id, each in loaded.items() if each is None]:
        for stream_id in lost:
            cache.drop(stream_id)
        fresh = {stream_id: Kept(0, decider.initial) for stream_id in lost}
        loaded |= await _load(store, decider, fresh, cache, snapshots, connection)
    return {stream_id: each for stream_id, each in loaded.items() if each is not None}


async def _load(
    store: EventStore,
    decider: Decider[S, C],
    starts: dict[str, Kept[S]],
    cache: StateCache,
    snapshots: Snapshots | None,
    connection: Connection | None,
) -> dict[str, Loaded[S] | None]:
    """The streams folded on from `starts`; None for one that does not have the event that its start ends
    with."""
    after = {stream_id: start.read_after for stream_id, start in starts.items()}
    policy = snapshots.policy(decider) if snapshots else None
    newer: Mapping[str, list[RecordedEvent]]
    if policy is None or snapshots is None:
        newer = await store.read_streams(after, connection=connection)
    else:
        found = await store.read_streams_from_snapshots(
            after, policy.codec.schema_version, connection=connection
        )
        decoded, broken = _decode(policy.codec, found.snapshots)
        starts = starts | {one: kept for one, kept in decoded.items() if not starts[one].version}
        newer = found.events
        if broken:
            again = {snapshot.stream_id: 0 for snapshot in broken}
            newer = {**newer, **await store.read_streams(again, connection=connection)}
        snapshots.drop([*found.unusable, *broken])
    return {
        stream_id: _fold(decider, stream_id, start, newer[stream_id], cache)
        for stream_id, start in starts.items()
    }


async def load_state(
    store: EventStore,
    decider: Decider[S, C],
    stream_id: str,
    *,
    cache: StateCache,
    snapshots: Snapshots | None = None,
) -> Loaded[S]:
    """One stream. Where there are no snapshots it is a plainer query, which is planned faster."""
    if snapshots and snapshots.policy(decider):
        return (await load_states(store, decider, [stream_id], cache=cache, snapshots=snapshots))[stream_id]
    start = cache.get(decider, stream_id)
    while True:
        newer = await store.read_stream(stream_id, after_version=start.read_after)
        if (loaded := _fold(decider, stream_id, start, newer, cache)) is not None:
            return loaded
        cache.drop(stream_id)
        start = Kept(0, decider.initial)


def _fold(
    decider: Decider[S, C],
    stream_id: str,
    start: Kept[S],
    newer: Sequence[RecordedEvent],
    cache: StateCache,
) -> Loaded[S] | None:
    """The state after `newer`, which begins with the event that `start` ends with; None when it is not that
    event."""
    if start.event_id is not None:
        if not newer or newer[0].event_id != start.event_id:
            return None
        newer = newer[1:]
    base, state, _ = start
    if not newer:
        return Loaded(state, base, base)
    state = decider.fold((each.event for each in newer), state)
    version, event_id = newer[-1].version, newer[-1].event_id
    if version > cache.get(decider, stream_id).version:
        cache.keep(decider, stream_id, version, state, event_id)
    return Loaded(state, version, base)


def _decode(
    codec: SnapshotCodec[S], snapshots: Mapping[str, Snapshot]
) -> tuple[dict[str, Kept[S]], list[Snapshot]]:
    """The states by stream with their versions, and the snapshots that are none."""
    decoded: dict[str, Kept[S]] = {}
    broken: list[Snapshot] = []
    for stream_id, snapshot in snapshots.items():
        try:
            # Its event was compared by the query (snapshot_rows.py), which reads on behind it.
            decoded[stream_id] = Kept(snapshot.version, codec.decode(snapshot.state))
        except Exception:  # noqa: BLE001 - whatever a decoder raises: the events are there
            broken.append(snapshot)
    return decoded, broken
