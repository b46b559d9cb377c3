"""The breaker's reason in the database, so that the board can show why e-mails wait now, and not why one was
delayed then."""

from typing import LiteralString

from millrace import Connection

_SHOW: LiteralString = (
    "UPDATE public.email_outage SET reason = %s, since = clock_timestamp() WHERE reason IS DISTINCT FROM %s"
)


class ShownOutage:
    """Writes the reason when it has changed: a probe that finds what the last one found costs no
    statement."""

    def __init__(self) -> None:
        self._shown: tuple[str | None] | None = None

    def forget(self) -> None:
        """Another process may have written it since."""
        self._shown = None

    async def show(self, connection: Connection, reason: str | None) -> None:
        """`reason`: None when there is no outage. Raises psycopg.Error."""
        if self._shown != (reason,):
            await connection.execute(_SHOW, (reason, reason))
            self._shown = (reason,)
