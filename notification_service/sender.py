"""The sender: the worker that turns requested notifications into e-mails. One process of the service
sends."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import psycopg

from millrace import EventStore, Health, Metrics, Role, StoreUnverified, get_logger, require_verified
from millrace.postgres.database import is_data_fault
from millrace.postgres.leader import LeaderSession, LeadershipLost, open_leader_session
from millrace.postgres.lease import LEASE
from millrace.postgres.wakeup import Wakeup
from millrace.runtime.backoff import Backoff
from millrace.runtime.loop_worker import LoopWorker, done_before
from notification_service.breaker import Breaker
from notification_service.delivery import Delivery
from notification_service.dispatch import Dispatcher, Pace
from notification_service.mailer import Mailer
from notification_service.metrics import EmailMetrics
from notification_service.outage import ShownOutage
from notification_service.outbox import Outbox, utc_now
from notification_service.queries import NotificationQueries
from notification_service.recorder import Recorder

log = get_logger(__name__)

_PATIENCE: Final = (
    300.0  # seconds without a turn of the loop until a restart is due; one mail may take half of it
)
_SENDING: Final = "sending"
_STANDING_BY: Final = "standing by"
_OUTDATED_PAUSE: Final = (
    5  # times the pause of those who stand by: a newer process among them leads before this one does
)


class _Outdated(Exception):
    """Something is due that only a newer program can read."""


class Sender(LoopWorker):
    """Sends what is due, as long as this process holds the sender's lock; else stands by.

    What a newer program wrote it leaves to a process of that program: it gives up the lock for a while after
    each batch in which it met such a notification.

    An outage of the mail server or the user service costs no notification an attempt that counts: the breaker
    makes everything wait. The servers are probed without a mail every `probe_every` seconds; once both answer
    one mail is tried, and when it goes through all that waited is due at once.
    """

    name = "notification sender"
    role = Role.CONSUMERS

    def __init__(
        self,
        *,
        url: str,
        store: EventStore,
        queries: NotificationQueries,
        delivery: Delivery,
        mailer: Callable[[], Mailer],
        projected: Wakeup,
        breaker: Breaker | None = None,
        pace: Pace | None = None,
        batch: int = 100,
        look_again: float = 1.0,
        probe_every: float = 1.0,
        lease: float = LEASE,
        now: Callable[[], datetime] = utc_now,
        metrics: Metrics | None = None,
    ) -> None:
        """`url` is for a session of the sender's own; `projected` tells that the read model has moved, and
        every `look_again` seconds it is looked at anyway (for what comes due, and for other processes).
        `lease` (seconds): for so long a sender that is frozen keeps the lock."""
        super().__init__(drain_timeout=8.0)
        self._url = url
        self._outbox = Outbox(queries, store, now)
        self._breaker = breaker or Breaker(Backoff(initial=0.5, maximum=60.0))
        self._delivery = delivery
        self._mailer = mailer
        measured = EmailMetrics(metrics or Metrics())
        measured.watch_breaker(self._breaker)
        recorder = Recorder(store, self._stopping)
        self._dispatcher = Dispatcher(
            recorder=recorder,
            delivery=delivery,
            mailer=mailer,
            breaker=self._breaker,
            stopping=self._stopping,
            beat=self._beat,
            pace=pace,
            now=now,
            metrics=measured,
        )
        self._projected = projected
        self._batch = batch
        self._look_again = look_again
        self._probe_every = probe_every
        self._lease = lease
        self._backoff = Backoff(initial=0.1, maximum=5.0)
        self._state = "starting"
        self._answers = False
        self._shown = ShownOutage()

    def health(self) -> Health:
        """Not alive when the loop hangs. An outage of others is told, and doesn't make the process
        unready."""
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
                    await self._stand_by_then_lead(session)
            except LeadershipLost as lost:
                self._enter(f"{_STANDING_BY}: {lost}")
                await self._pause(self._backoff.next_delay())
            except StoreUnverified as unverified:
                # A store that came back from a backup has forgotten what was sent. No mail goes out twice for
                # that.
                self._enter(f"waiting: {unverified}")
                await self._pause(self._look_again)
            except _Outdated as reason:
                self._enter(f"waits for a newer program: {reason}")
                await self._pause(_OUTDATED_PAUSE * self._look_again)
            except psycopg.Error as error:
                if is_data_fault(error):
                    raise
                self._enter(f"no database: {type(error).__name__}")
                await self._pause(self._backoff.next_delay())

    async def _stand_by_then_lead(self, session: LeaderSession) -> None:
        while not await session.try_lead(lease=self._lease):
            self._backoff.reset()
            self._enter(_STANDING_BY)
            await self._pause(self._look_again)
            if self._stopping.is_set():
                return
        try:
            self._shown.forget()
            async with session.leased():
                while not self._stopping.is_set():
                    await session.confirm()
                    self._backoff.reset()
                    await self._shown.show(session.connection, self._breaker.reason)
                    if await self._may_send():
                        await self._send_once(session)
        except psycopg.Error:
            session.require_lease()  # in a process that thaws its session fails: Postgres is well
            raise

    async def _may_send(self) -> bool:
        """Whether something may go out, at least one mail to see what becomes of it. During an outage this
        probes, waits, and returns False; it is called again, after the lock has been confirmed."""
        if not self._breaker.open:
            return True
        self._beat()
        if not await done_before(self._stopping, self._probe()):
            return False
        if self._answers and self._breaker.pause == 0.0:
            return True
        self._enter(f"waiting: {self._breaker.reason}")
        await self._pause(self._probe_every)
        return False

    async def _probe(self) -> None:
        """Ask both servers without a mail."""
        async with self._mailer() as mailer:
            outage = await self._delivery.probe(mailer)
        self._answers = outage is None
        self._breaker.probed(None if outage is None else outage.reason)

    async def _send_once(self, session: LeaderSession) -> None:
        """Send a batch, or wait until there may be something to send."""
        if self._state != _SENDING:  # "sending" is not said of a store that nobody has compared
            await require_verified(session.connection)
        self._enter(_SENDING)
        seen = self._projected.generation  # before the look: what is projected after it is not missed
        due = await self._outbox.due(self._batch)
        if due:

            async def confirm() -> None:
                session.require_lease()
                await require_verified(session.connection)  # which also shows that the session is still there

            # While there is an outage: one mail.
            await self._dispatcher.dispatch(due[:1] if self._breaker.open else due, confirm)
        if self._outbox.newer:
            raise _Outdated(self._outbox.newer)
        if not due:
            self._beat()
            await self._projected.wait(self._look_again, since=seen)

    def _enter(self, state: str) -> None:
        if state != self._state:
            log.info("sender", state=state, was=self._state)
            self._state = state
