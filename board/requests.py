"""What an operator can do on the board: ask a service to redrive its parked streams. Looking needs none of
this.

The board carries nothing out and calls nobody. It writes a request into the service's database, by a login
that may do that and nothing else; the service carries it out when it runs
(millrace/operations/operator_requests.py). The row is the record of who asked for what and when, and of what
became of it.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, LiteralString, Self
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from millrace.domain.ids import new_id
from millrace.postgres.database import session_options

SHOWN = 50
"""Requests of each service that are listed."""
WITHIN = 4.0  # seconds for an answer of a database

_COLUMNS: LiteralString = """
    id, requested_at, requested_by, action, consumer, stream_id, error_class, dry_run,
    taken_at, takes, done_at, outcome
"""
_ASK: LiteralString = """
    INSERT INTO public.operator_requests (id, requested_by, action, consumer, stream_id, error_class, dry_run)
    VALUES (%(id)s, %(who)s, 'redrive', %(consumer)s, %(stream_id)s, %(error_class)s, %(dry_run)s)
"""
_ONE: LiteralString = f"SELECT {_COLUMNS} FROM public.operator_requests WHERE id = %s"  # noqa: S608 - constants
_LATEST: LiteralString = (
    f"SELECT {_COLUMNS} FROM public.operator_requests ORDER BY requested_at DESC LIMIT {SHOWN}"  # noqa: S608
)

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class Redrive(BaseModel):
    """What is asked for: one parked stream of a consumer, those that failed with one class of error, or all
    of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: Id
    consumer: Id
    stream_id: Id | None = None
    error_class: Id | None = None
    dry_run: bool = True
    confirmed: bool = False
    who: Name

    @model_validator(mode="after")
    def _is_meant(self) -> Self:
        if not self.dry_run and not self.confirmed:
            raise ValueError('say "confirmed": true, or try it first: "dry_run": true')
        return self


class Action(BaseModel):
    """A request and what became of it: `outcome` as millrace/operations/operator_requests.py describes it,
    also while it is under way."""

    id: UUID
    service: str
    action: str
    consumer: str
    stream_id: str | None
    error_class: str | None
    dry_run: bool
    requested_by: str
    requested_at: datetime
    taken_at: datetime | None
    takes: int
    done_at: datetime | None
    outcome: dict[str, Any] | None


class Listed(BaseModel):
    """The latest requests of all services, newest first; `unseen` says whose can't be seen, and why."""

    actions: list[Action]
    unseen: dict[str, str] = Field(default_factory=dict)


class NoAnswer(Exception):
    """A database did not do its part."""


class Requests:
    """The requests of all services. A connection each time: operators ask seldom."""

    def __init__(self, databases: Mapping[str, str]) -> None:
        """`databases`: where to log in as <service>_operator, by service."""
        self._databases = databases

    @property
    def services(self) -> list[str]:
        """Those that can be asked."""
        return list(self._databases)

    async def ask(self, wanted: Redrive) -> UUID:
        """Write it down for the service; returns its id. Raises NoAnswer."""
        request = new_id()
        await self._query(wanted.service, _ASK, {"id": request, **wanted.model_dump()})
        return request

    async def one(self, service: str, request: UUID) -> Action | None:
        """A request as it is now. Raises NoAnswer."""
        if service not in self._databases:
            return None
        rows = await self._query(service, _ONE, (request,))
        return Action(service=service, **rows[0]) if rows else None

    async def latest(self) -> Listed:
        """The latest ones; a database that can't be seen is named, and doesn't hide the others."""

        async def of(service: str) -> list[Action] | str:
            try:
                return [Action(service=service, **row) for row in await self._query(service, _LATEST)]
            except NoAnswer as error:
                return str(error)

        found = dict(
            zip(self._databases, await asyncio.gather(*(of(name) for name in self._databases)), strict=True)
        )
        actions = [one for rows in found.values() if isinstance(rows, list) for one in rows]
        actions.sort(key=lambda one: one.requested_at, reverse=True)
        return Listed(
            actions=actions[:SHOWN], unseen={name: why for name, why in found.items() if isinstance(why, str)}
        )

    async def _query(
        self, service: str, query: LiteralString, parameters: Any = None
    ) -> list[dict[str, Any]]:
        try:
            async with (
                asyncio.timeout(WITHIN),
                await psycopg.AsyncConnection.connect(
                    self._databases[service],
                    autocommit=True,
                    connect_timeout=2,
                    application_name="millrace-board-operator",
                    options=session_options(statement_timeout="2s", lock_timeout="500ms"),
                    row_factory=dict_row,
                ) as connection,
            ):
                cursor = await connection.execute(query, parameters)
                return await cursor.fetchall() if cursor.description else []
        except TimeoutError:
            raise NoAnswer(f"postgres-{service}: no answer in {WITHIN:.0f} s") from None
        except psycopg.Error as error:
            raise NoAnswer(
                f"postgres-{service}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
            ) from error
