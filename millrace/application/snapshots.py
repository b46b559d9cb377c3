"""Snapshots: states of long streams, kept beside the events so that nobody folds these from their start.

A cache and never the truth (docs/event-store.md). Taken behind the commit, in batches and as well as it goes:
a command neither waits for its snapshot nor fails with it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from millrace.domain.decider import C, Decider, S
from millrace.domain.snapshot_codec import SnapshotPolicy
from millrace.domain.stream_kind import StreamKind
from millrace.postgres.database import Pool
from millrace.store import snapshot_rows
from millrace.store.snapshot_rows import Snapshot
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

_MAX_PENDING = 1_000  # streams; while the database is away there is no point in keeping more
_LAST_WRITE = 2.0  # seconds for what is left when the process stops


@dataclass(slots=True)
class SnapshotCounters:
    """What became of snapshots since the start of the process. `failed`: not taken; `dropped`: could not be
    used."""

    taken: int = 0
    failed: int = 0
    dropped: int = 0


class Snapshots:
    """The snapshots of one service: `async with Snapshots(pool, kinds) as snapshots`.

    Kinds of streams without a policy have none. Everything happens in one event loop, and between looking at
    `_pending`, `_useless` and `_writing` and changing them nobody awaits: there is no lock.
    """

    def __init__(self, pool: Pool, kinds: Iterable[StreamKind], *, metrics: Metrics | None = None) -> None:
        self.counters = SnapshotCounters()
        if metrics is not None:
            self._tell(metrics)
        self._pool = pool
        self._policies = [(kind.decider, kind.snapshots) for kind in kinds if kind.snapshots]
        self._pending: dict[str, tuple[int, SnapshotPolicy, Any]] = {}
        self._useless: dict[str, Snapshot] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    def _tell(self, metrics: Metrics) -> None:
        counters = self.counters
        for outcome, read in {
            "taken": lambda: counters.taken,
            "failed": lambda: counters.failed,
            "dropped": lambda: counters.dropped,
        }.items():
            told = "Snapshots of long streams by what became of them"
            metrics.watch("counter", "millrace_snapshots_total", told, read, outcome=outcome)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the last ones, for a moment, and leaves no task behind."""
        self._closed = True
        if self._writing is not None:
            writing = self._writing
            await asyncio.wait({writing}, timeout=_LAST_WRITE)
            writing.cancel()
            await asyncio.wait({writing})

    def policy(self, decider: Decider[Any, Any]) -> SnapshotPolicy | None:
        """How streams of this decider are kept; None: not at all."""
        return next((policy for known, policy in self._policies if known is decider), None)

    def offer(self, decider: Decider[S, C], stream_id: str, base: int, version: int, state: S) -> None:
        """The stream, folded on from version `base`, has this state at the committed `version`: keep it if it
        is time.

        Returns at once.
        """
        policy = self.policy(decider)
        if policy is None or not policy.due(base, version) or self._closed:
            return
        if len(self._pending) >= _MAX_PENDING and stream_id not in self._pending:
            self.counters.failed += 1
            return
        self._pending[stream_id] = (version, policy, state)
        self._start()

    def drop(self, snapshots: Iterable[Snapshot]) -> None:
        """These can't be used. Returns at once."""
        for snapshot in snapshots:
            self.counters.dropped += 1
            log.info(
                "snapshot dropped",
                stream=snapshot.stream_id,
                version=snapshot.version,
                schema_version=snapshot.schema_version,
            )
            if not self._closed:
                self._useless[snapshot.stream_id] = snapshot
                self._start()

    def _start(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="snapshots")

    async def _write_all(self) -> None:
        """While one batch is written the next one collects."""
        try:
            while self._pending or self._useless:
                pending, self._pending = self._pending, {}
                useless, self._useless = self._useless, {}
                await self._write(pending, useless)
        finally:
            self._writing = None

    async def _write(
        self, pending: dict[str, tuple[int, SnapshotPolicy, Any]], useless: dict[str, Snapshot]
    ) -> None:
        try:
            taken = [
                Snapshot(stream_id, version, policy.codec.schema_version, policy.codec.encode(state))
                for stream_id, (version, policy, state) in pending.items()
            ]
            async with self._pool.connection() as connection:
                if useless:
                    await snapshot_rows.delete(connection, useless.values())
                if taken:
                    await snapshot_rows.write(connection, taken)
        except Exception as error:  # noqa: BLE001 - whatever it is, only time is lost, and it is told and counted
            self.counters.failed += len(pending)
            log.warning("snapshots not taken", streams=len(pending), error=f"{type(error).__name__}: {error}")
        else:
            self.counters.taken += len(pending)
