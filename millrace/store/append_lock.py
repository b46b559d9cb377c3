"""Who holds the append lock, and for how long: nobody else appends meanwhile (docs/event-store.md)."""

from dataclasses import dataclass
from typing import LiteralString

TAKE_APPEND_LOCK: LiteralString = "LOCK TABLE public.append_lock IN EXCLUSIVE MODE"
"""For the owner of the tables; nobody else has a right to it. Appends take it in append_events
(millrace/migrations/0019_owner_appends.sql)."""
NOTICED = 3.0
"""Seconds after which a hold is no ordinary append."""
TOO_LONG = 15.0
"""Seconds after which a service ends a session of its own that holds the lock: longer than every other limit
of it."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A row of the function append_lock_holder (millrace/migrations/0019_owner_appends.sql)."""

    pid: int
    login: str
    application: str
    hold: str

    def __str__(self) -> str:
        """pid 4711 (login order_service, application psql)"""
        application = f", application {self.application}" if self.application else ""
        return f"pid {self.pid} (login {self.login}{application})"


class LockWatch:
    """Measures holds by looking again and again; Postgres does not keep since when a lock is held. Pure."""

    def __init__(self) -> None:
        self._hold = ""
        self._since = 0.0

    def held_for(self, holder: LockHolder | None, now: float) -> float:
        """Seconds for which the lock has been held, as far as it was seen. `now`: of a monotonic clock."""
        hold = holder.hold if holder else ""
        if hold != self._hold:
            self._hold, self._since = hold, now
        return now - self._since if hold else 0.0
