"""Loading streams: from the state in memory, from a snapshot, or from the first event; then whatever is newer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from chassis.database import Connection
from chassis.decider import C, Decider, S
from chassis.events import RecordedEvent
from chassis.snapshot_codec import SnapshotCodec
from chassis.snapshots import Snapshots
from chassis.state_cache import StateCache
from chassis.store import EventStore
from chassis.store.snapshot_rows import Snapshot


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

    A transaction that appended to them must not come here with a cache: only what is committed may be kept. A snapshot
    that can't be decoded costs one more statement.
    """
    starts = {stream_id: cache.get(decider, stream_id) for stream_id in stream_ids}
    after = {stream_id: version for stream_id, (version, _) in starts.items()}
    policy = snapshots.policy(decider) if snapshots else None
    newer: Mapping[str, list[RecordedEvent]]
    if policy is None or snapshots is None:
        newer = await store.read_streams(after, connection=connection)
    else:
        found = await store.read_streams_from_snapshots(
            after, policy.codec.schema_version, connection=connection
        )
        decoded, broken = _decode(policy.codec, found.snapshots)
        starts |= decoded
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
    newer = await store.read_stream(stream_id, after_version=start[0])
    return _fold(decider, stream_id, start, newer, cache)


def _fold(
    decider: Decider[S, C],
    stream_id: str,
    start: tuple[int, S],
    newer: Sequence[RecordedEvent],
    cache: StateCache,
) -> Loaded[S]:
    base, state = start
    version = base
    if newer:
        version = newer[-1].version
        state = decider.fold((each.event for each in newer), state)
    if version > cache.get(decider, stream_id)[0]:
        cache.keep(decider, stream_id, version, state)
    return Loaded(state, version, base)


def _decode(
    codec: SnapshotCodec[S], snapshots: Mapping[str, Snapshot]
) -> tuple[dict[str, tuple[int, S]], list[Snapshot]]:
    """The states by stream with their versions, and the snapshots that are none."""
    decoded: dict[str, tuple[int, S]] = {}
    broken: list[Snapshot] = []
    for stream_id, snapshot in snapshots.items():
        try:
            decoded[stream_id] = (snapshot.version, codec.decode(snapshot.state))
        except Exception:  # noqa: BLE001 - whatever a decoder raises: the events are there
            broken.append(snapshot)
    return decoded, broken
