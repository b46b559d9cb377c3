"""Deploying a new version of a read model: it is built first, then its projector or consumer keeps it up to
date.

Meanwhile everybody goes on with the version that they know: the processes of the last deployment write and
read theirs, and the queries of this one find that too, through their search path
(millrace/read_models/reading.py). So old and new processes can run side by side, and a deployment that is
rolled back serves its own version at once, from where its checkpoint stands.
"""

import asyncio
import time
from functools import partial

import psycopg
from aiokafka.errors import KafkaError

from millrace.postgres.database import Pool
from millrace.read_models.feed import Feed
from millrace.rebuild import copies
from millrace.rebuild.progress import ReplayProgress, Stage
from millrace.rebuild.rebuild import Rebuild
from millrace.rebuild.rebuild_lock import RebuildRunning
from millrace.runtime.backoff import Backoff
from millrace.runtime.errors import AlreadyLive, ReplayError, first_line
from millrace.runtime.loop_worker import done_before
from millrace.runtime.worker import Health, Role, Worker
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

SOURCE_AWAY = 30.0  # seconds without the topic after which requests are let in all the same


class BuildFirst:
    """`worker`, which feeds the live copy of the read model of `feed`, once there is one.

    Of several processes one builds it, the others wait and then find it live. Anyone who is killed leaves
    what was done; the next one goes on from there. Faults are retried forever, and shown. Until it is live
    the process is not ready, so that a rolling deployment keeps the old processes; unless that waits for
    Kafka, without which commands must go through.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        feed: Feed,
        pool: Pool,
        database_url: str,
        kafka: str,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = worker.name
        self.role: Role | None = worker.role
        self._worker = worker
        self._model = feed.model
        self._topics = bool(feed.topics)
        self._pool = pool
        self._rebuild = partial(Rebuild, feed, database_url, kafka, unless_live=True, on_progress=self._show)
        self._backoff = backoff or Backoff(initial=0.2, maximum=5.0)
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()
        self._at_work = False
        self._detail = "looking for its live copy"
        self._building = False
        self._waiting_since: float | None = None

    async def run(self) -> None:
        """Build what is missing, then run the worker, until stopped; raises what the worker raises."""
        try:
            if await done_before(self._stopping, self._build()) and not self._stopping.is_set():
                self._at_work = True  # no await from here to the worker's start: `stop` finds it startable
                await self._worker.run()
        finally:
            self._finished.set()

    async def stop(self) -> None:
        """Leave a build as it is, or let the worker drain."""
        self._stopping.set()
        if self._at_work:
            await self._worker.stop()
        await self._finished.wait()

    def health(self) -> Health:
        """The worker's, once the read model is live; until then not ready, with how far the build is."""
        if self._at_work:
            return self._worker.health()
        since = self._waiting_since
        without_source = self._topics and since is not None and time.monotonic() - since > SOURCE_AWAY
        return Health(ready=False, needed=self._building and not without_source, detail=self._detail)

    async def _build(self) -> None:
        while True:
            try:
                async with self._pool.connection() as connection:
                    if await copies.is_live(connection, self._model):
                        return
                self._building = True
                outcome = await self._rebuild().run()
                log.info("read model built", read_model=outcome.schema, events=outcome.events)
            except AlreadyLive:
                continue
            except RebuildRunning as running:
                self._say(str(running))
            except (ReplayError, psycopg.Error, KafkaError, OSError) as error:
                # Nothing that this process could do better than try again: Kafka is away, a right is missing,
                # an event can't be applied by this version (then the deployment stays where it is until
                # somebody acts).
                self._wait(f"{type(error).__name__}: {first_line(error)}")
            await self._backoff.wait()

    def _show(self, progress: ReplayProgress) -> None:
        if progress.stage is Stage.WAITING:
            self._wait(progress.detail)
        else:
            self._waiting_since = None
            self._backoff.reset()
            self._say(f"building {self._model.schema}: {progress.percent} %")

    def _wait(self, why: str) -> None:
        self._waiting_since = self._waiting_since or time.monotonic()
        self._say(f"building {self._model.schema} waits: {why}" if self._building else why)

    def _say(self, detail: str) -> None:
        if detail != self._detail:
            log.info("read model", read_model=self._model.schema, detail=detail)
        self._detail = detail
