"""Release: a service takes back what it did because of streams that no store has any more."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from millrace.application.snapshots import Snapshots
from millrace.application.unit_of_work import UnitOfWork
from millrace.operations.definition import Releases, ServiceDefinition
from millrace.operations.lost.existence import existing_streams
from millrace.operations.lost.holdings import held, own_events
from millrace.operations.lost.streams import LostStream, note_released, read_lost
from millrace.postgres.database import Connection, Pool, open_pool
from millrace.postgres.wakeup import shared_wakeup
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.store import EventStore, WrongExpectedVersion

AT_ONCE = 100  # streams in one transaction, which holds the append lock at its end
_ATTEMPTS = 20  # each lost one means that another writer was faster

Chosen = Mapping[str, Sequence[LostStream]]
"""Lost stream -> its rows of lost_events, one for each epoch that it lost events of."""


class Became(StrEnum):
    """What became of the effect of a lost stream. NOTHING: nothing was held any more. KEPT: it can't be
    released."""

    RELEASED = "released"
    NOTHING = "nothing"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """What became of the effect of a lost stream. `own` is the stream of this service that answered it.

    `what` was released, or says why it is kept.
    """

    stream_id: str
    own: str
    became: Became
    what: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decides a release, and why. `dry_run`: nothing is written."""

    by: str
    reason: str
    dry_run: bool = False


async def release_lost(
    definition: ServiceDefinition,
    settings: ServiceSettings,
    streams: Sequence[str] | None,
    decision: Decision,
    done: Callable[[ReleaseOutcome], None],
) -> None:
    """Release the effects of `streams` (None: of all lost ones); `done` gets each outcome once it is
    committed.

    What follows from the release of a stream is one transaction, with `decision.by` as its actor. What was
    released before is passed over. Raises ToolError, with nothing changed, if the service can't take anything
    back, if a stream is not a lost one, or if the topic can't prove what is gone; psycopg.Error, KafkaError.
    """
    hook = definition.releases
    if hook is None:
        raise ToolError("nothing that this service did can be taken back; `lost list` names it")
    async with _opened(definition, settings, decision) as work:
        async with work.pool.connection() as connection:
            lost = [one for one in await read_lost(connection) if one.consumer == hook.consumer]
        chosen = _choose(lost, streams)
        if not chosen:
            return
        rows = [one for some in chosen.values() for one in some]
        existing = await existing_streams(
            definition.reactions[hook.consumer].sources, settings.kafka_bootstrap_servers, rows
        )
        for stream_id, topic in existing.items():
            why = f"{topic.name} has this stream: only a part of it is lost"
            done(ReleaseOutcome(stream_id, hook.stream_of(stream_id), Became.KEPT, why))
        for part in _parts({one: some for one, some in chosen.items() if one not in existing}):
            for outcome in await work.release(hook, part):
                done(outcome)


def _choose(lost: Sequence[LostStream], streams: Sequence[str] | None) -> Chosen:
    """The rows that are not settled, by stream."""
    known = {one.stream_id for one in lost}
    for stream_id in streams or ():
        if stream_id not in known:
            raise ToolError(f"{stream_id} is not a lost stream here; `lost list` shows those there are")
    chosen: dict[str, list[LostStream]] = defaultdict(list)
    for one in lost:
        if not one.settled and (streams is None or one.stream_id in streams):
            chosen[one.stream_id].append(one)
    return chosen


def _parts(chosen: Chosen) -> Iterator[Chosen]:
    names = list(chosen)
    for start in range(0, len(names), AT_ONCE):
        yield {name: chosen[name] for name in names[start : start + AT_ONCE]}


@asynccontextmanager
async def _opened(
    definition: ServiceDefinition, settings: ServiceSettings, decision: Decision
) -> AsyncIterator["_Work"]:
    async with (
        open_pool(settings.database_url, name=f"{definition.name}-lost", max_size=3) as pool,
        shared_wakeup(settings.database_url) as wakeup,
        EventStore(pool, definition.registry, wakeup=wakeup) as store,
        Snapshots(pool, definition.streams) as snapshots,
    ):
        yield _Work(definition, pool, store, snapshots, decision)


@dataclass(frozen=True)
class _Work:
    """Transactions on the service's store, beside its running processes."""

    definition: ServiceDefinition
    pool: Pool
    store: EventStore
    snapshots: Snapshots
    decision: Decision

    async def release(self, hook: Releases, part: Chosen) -> list[ReleaseOutcome]:
        """Release these in one transaction. Streams that others append to meanwhile are decided again."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._attempt(hook, part)
            except WrongExpectedVersion:
                continue
        return await self._attempt(hook, part)

    async def _attempt(self, hook: Releases, part: Chosen) -> list[ReleaseOutcome]:
        async with self.pool.connection() as connection, connection.transaction():
            unit = UnitOfWork(connection, self.store, self.decision.by, snapshots=self.snapshots)
            answers = await own_events(self.store, hook, part, connection=connection)
            outcomes = []
            for stream_id, events in answers.items():
                own, holds = hook.stream_of(stream_id), held(self.definition, hook, events)
                if holds is None:
                    outcomes.append(ReleaseOutcome(stream_id, own, Became.NOTHING))
                elif not holds.releasable:
                    outcomes.append(ReleaseOutcome(stream_id, own, Became.KEPT, holds.what))
                else:
                    await hook.release(events[-1], unit)
                    outcomes.append(ReleaseOutcome(stream_id, own, Became.RELEASED, holds.what))
            if not self.decision.dry_run:
                await self._write(connection, unit, part, outcomes)
        if not self.decision.dry_run:
            unit.committed()
            self.store.wakeup.notify()
        return outcomes

    async def _write(
        self, connection: Connection, unit: UnitOfWork, part: Chosen, outcomes: Sequence[ReleaseOutcome]
    ) -> None:
        for outcome in outcomes:
            if outcome.became is not Became.KEPT:
                await note_released(
                    connection,
                    part[outcome.stream_id],
                    outcome.what,
                    by=self.decision.by,
                    reason=self.decision.reason,
                )
        await unit.flush()  # last: the store's append lock is held from here to the commit
