"""The sender: the worker that turns requested notifications into e-mails. One process of the service sends."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import psycopg

from chassis.backoff import Backoff
from chassis.database import is_transient
from chassis.leader import LeaderSession, open_leader_session
from chassis.logging import get_logger
from chassis.loop_worker import LoopWorker
from chassis.metrics import Metrics
from chassis.service import Health, Role
from chassis.store import EventStore
from chassis.wakeup import Wakeup
from notification_service.breaker import Breaker
from notification_service.delivery import Delivery
from notification_service.dispatch import Dispatcher, Pace
from notification_service.mailer import Mailer
from notification_service.metrics import EmailMetrics
from notification_service.outbox import Outbox, utc_now
from notification_service.queries import NotificationQueries
from notification_service.recorder import Recorder

log = get_logger(__name__)

_PATIENCE: Final = (
    120.0  # seconds without a turn of the loop until a restart is due; one mail may take a third
)
_LONGEST_NAP: Final = 10.0  # seconds until the lock is confirmed again
_SENDING: Final = "sending"
_STANDING_BY: Final = "standing by"


class Sender(LoopWorker):
    """Sends what is due, as long as this process holds the sender's lock; else stands by.

    An outage of the mail server or the user service costs no notification an attempt that counts: the breaker
    makes everything wait, one probe at a time finds the end of it, and then all that waited is due at once.
    """

    name = "notification sender"
    role = Role.CONSUMERS

    def __init__(
        self,
        url: str,
        store: EventStore,
        queries: NotificationQueries,
        delivery: Delivery,
        mailer: Callable[[], Mailer],
        *,
        projected: Wakeup,
        breaker: Breaker | None = None,
        pace: Pace | None = None,
        batch: int = 100,
        look_again: float = 1.0,
        now: Callable[[], datetime] = utc_now,
        metrics: Metrics | None = None,
    ) -> None:
        """`url` is for a session of the sender's own; `projected` tells that the read model has moved, and
        every `look_again` seconds it is looked at anyway (for what comes due, and for other processes)."""
        super().__init__(drain_timeout=8.0)
        self._url = url
        self._outbox = Outbox(queries, store, now)
        self._breaker = breaker or Breaker(Backoff(initial=0.5, maximum=60.0))
        measured = EmailMetrics(metrics or Metrics())
        measured.watch_breaker(self._breaker)
        recorder = Recorder(store, self._stopping)
        self._dispatcher = Dispatcher(
            recorder,
            delivery,
            mailer,
            self._breaker,
            self._stopping,
            self._beat,
            pace=pace,
            now=now,
            metrics=measured,
        )
        self._projected = projected
        self._batch = batch
        self._look_again = look_again
        self._backoff = Backoff(initial=0.1, maximum=5.0)
        self._state = "starting"

    def health(self) -> Health:
        """Not alive when the loop hangs. An outage of others is told, and doesn't make the process unready."""
        return Health(
            alive=self.seconds_since_beat < _PATIENCE,
            ready=self._state in (_SENDING, _STANDING_BY) and not self._breaker.open,
            detail=self._state,
        )

    def _wake(self) -> None:
        self._projected.notify(from_elsewhere=True)

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                async with open_leader_session(self._url, self.name) as session:
                    await self._take_part(session)
            except psycopg.Error as error:
                if not is_transient(error):
                    raise
                self._enter(f"no database: {type(error).__name__}")
                await self._pause(self._backoff.next_delay())

    async def _take_part(self, session: LeaderSession) -> None:
        while not self._stopping.is_set():
            leads = await session.try_lead()
            self._backoff.reset()
            if leads:
                await self._send_once(session)
            else:
                self._enter(_STANDING_BY)
                await self._pause(self._look_again)

    async def _send_once(self, session: LeaderSession) -> None:
        """Send a batch, or wait until there may be something to send."""
        if pause := self._breaker.pause:
            self._enter(f"waiting: {self._breaker.reason}")
            await self._pause(min(pause, _LONGEST_NAP))
            return
        self._enter(_SENDING)
        seen = self._projected.generation  # before the look: what is projected after it is not missed
        due = await self._outbox.due(self._batch)
        if due:
            # While there is an outage: one probe.
            await self._dispatcher.dispatch(due[:1] if self._breaker.open else due, session.confirm)
        else:
            self._beat()
            await self._projected.wait(self._look_again, since=seen)

    def _enter(self, state: str) -> None:
        if state != self._state:
            log.info("sender", state=state, was=self._state)
            self._state = state
