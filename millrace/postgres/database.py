"""Connections to the service's own Postgres, and which of its errors are worth another try."""

import select
import time
from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection, Error, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolClosed

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

ACQUIRE_TIMEOUT = 5.0  # seconds until PoolTimeout when no connection is to be had

# For pools that requests wait on: who stands in a lock queue keeps a connection from everybody else. Appends
# give up after 10 s (millrace/store/group_commit.py); a wait for a lock ends before, and then it is known
# that nothing was done.
_WORK_DEADLINES = {"lock_timeout": "8s", "statement_timeout": "30s"}
READ_DEADLINES = {"lock_timeout": "5s", "statement_timeout": "10s"}
"""Of queries of read models."""

# Sent with each connection, which overrides what is declared for the role, the database or the server: code
# and SQL rely on these. transaction_timeout is not among them, because Postgres 16 refuses the name.
_SERVER_OPTIONS = {
    # Each statement sees what was committed before it. The append lock, and every wait for a row, is worth
    # nothing else.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # What was acknowledged is on the disk, and on a synchronous standby if there is one.
    "synchronous_commit": "on",
    # Waits are limited where they occur; a session that waits for signals, or to lead, may wait for days.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # What names and literals mean.
    "search_path": "public",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    # How values look that are sent as text.
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "exit_on_error": "off",
    "millrace.replay": "off",
    # Tables start empty: a cached plan would scan them sequentially long after they have grown.
    "plan_cache_mode": "force_custom_plan",
    # A process that hangs inside a transaction must not hold its locks for good.
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    # A client that a network cut took away never says goodbye. The server must notice, or the session would
    # hold its locks, a relay's leadership among them, for the two hours after which systems look by
    # themselves.
    "tcp_keepalives_idle": "5",  # seconds
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",  # milliseconds
}
_NETWORK = {
    "connect_timeout": 3,  # seconds
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds until an unanswered write fails
}

# SQLSTATEs of faults that pass: https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_STATES = frozenset(
    {
        "25006",  # read-only: the server was demoted, or we are connected to a stand-by
        "25P03",  # idle in transaction for too long
        "25P04",  # the transaction took too long
        "55P03",  # lock not available
        "58030",  # I/O error
    }
)
_TRANSIENT_CLASSES = frozenset(
    {
        "08",  # connection
        "40",  # rollback: deadlock, serialization failure
        "53",  # resources: disk full, too many connections, out of memory
        # somebody's intervention: a statement was cancelled or took too long, the server shuts down or starts
        "57",
    }
)
# What Postgres says of the values that it was given. Nothing else says anything about an event.
_DATA_CLASSES = frozenset(
    {
        "20",  # CASE without a match in a function
        "21",  # cardinality: more rows than one, or one row changed twice
        "22",  # data: out of range, not a number, no such character
        "23",  # integrity
        "38",  # a function in another language failed
        "44",  # WITH CHECK OPTION
        "54",  # a limit of the program: a value is too large for an index, nested too deeply
        "P0",  # a function raised it
    }
)


def open_pool(url: str, *, name: str, max_size: int, min_size: int = 1) -> Pool:
    """A connection pool; use it as `async with open_pool(...) as pool`.

    It opens without waiting, so that a service starts while Postgres is down; taking a connection raises
    PoolTimeout after ACQUIRE_TIMEOUT seconds. Connections are in autocommit mode: a single statement is its
    own transaction (one round trip), several need `async with connection.transaction()`. A statement ends
    after 30 s, a wait for a lock after 8 s; both are transient.
    """
    return _pool(url, name, min_size, max_size, _SERVER_OPTIONS | _WORK_DEADLINES)


def open_read_only_pool(url: str, *, name: str, max_size: int, min_size: int = 1) -> Pool:
    """As `open_pool`, but Postgres refuses every write; without deadlines, for tools that read everything."""
    return CheckedPool(**read_only_arguments(url, name, min_size, max_size))


def open_replay_pool(url: str, *, name: str, max_size: int) -> Pool:
    """As `open_pool`, for who fills a copy of a read model: Postgres refuses to append events; without
    deadlines.

    Commits don't wait for the disk: what a crash of Postgres takes back it takes back together with the
    progress.
    """
    return _pool(
        url, name, 1, max_size, _SERVER_OPTIONS | {"millrace.replay": "on", "synchronous_commit": "off"}
    )


def open_owner_pool(url: str, *, name: str, max_size: int) -> Pool:
    """As `open_pool`, as the owner of the tables: for a login that may become it (the migrator's), and for
    repairs.

    Without deadlines: a restore is one transaction.
    """
    return _pool(url, name, 1, max_size, _SERVER_OPTIONS | {"role": "millrace_owner"})


async def connect(url: str, *, name: str) -> Connection:
    """A connection outside of any pool, for a session of its own (LISTEN, session locks), in autocommit mode.

    Use it as `async with await connect(...) as connection`. Raises psycopg.OperationalError when there is
    none.
    """
    return await AsyncConnection.connect(url, **_connection_arguments(name, _SERVER_OPTIONS))


def read_only_arguments(url: str, name: str, min_size: int, max_size: int, **options: str) -> dict[str, Any]:
    """What a CheckedPool is made of that reads only; `options` are further settings of the server."""
    options = _SERVER_OPTIONS | {"default_transaction_read_only": "on"} | options
    return _pool_arguments(url, name, min_size, max_size, options)


def _pool(url: str, name: str, min_size: int, max_size: int, options: dict[str, str]) -> Pool:
    return CheckedPool(**_pool_arguments(url, name, min_size, max_size, options))


def _pool_arguments(
    url: str, name: str, min_size: int, max_size: int, options: dict[str, str]
) -> dict[str, Any]:
    return {
        "conninfo": url,
        "name": name,
        "min_size": min(min_size, max_size),
        "max_size": max_size,
        "open": False,
        "timeout": ACQUIRE_TIMEOUT,
        # The pool's pause between attempts doubles up to this; then the next request for a connection tries
        # again.
        "reconnect_timeout": 4.0,
        "kwargs": _connection_arguments(name, options),
    }


def _connection_arguments(name: str, options: dict[str, str]) -> dict[str, Any]:
    return {
        "autocommit": True,
        "application_name": name,
        "options": _startup_options(options),
        **_NETWORK,
    }


def session_options(**settings: str) -> str:
    """The `options` of a connection that is made elsewhere: everything that the code relies on, and
    `settings`."""
    return _startup_options(_SERVER_OPTIONS | settings)


def _startup_options(options: Mapping[str, str]) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in options.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


class CheckedPool(AsyncConnectionPool[Connection]):
    """Never hands out a connection that the server has closed meanwhile.

    The library's own check costs a round trip per use. But a server that restarted has sent something (its
    farewell, the end of the stream), and nobody else writes to an idle connection: only then we look closer.
    """

    async def getconn(self, timeout: float | None = None) -> Connection:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = await super().getconn(max(0.0, deadline - time.monotonic()))
            if not _readable(connection):
                return connection
            try:
                await self.check_connection(connection)
            except BaseException as error:
                await connection.close()
                await self.putconn(connection)
                if not isinstance(error, Error):
                    raise
            else:
                return connection


def _readable(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def is_transient(error: BaseException) -> bool:
    """Whether `error` comes from a database that is away, overloaded or busy, so that trying again later can
    help.

    True for a lost or refused connection, a pool timeout, a deadlock or serialization failure, a statement
    that was cancelled or took too long, a server that shuts down, starts up or is read-only during a
    failover, and a full disk. False for everything else: our own mistakes, refused constraints.
    """
    if not isinstance(error, Error) or isinstance(error, PoolClosed):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in _TRANSIENT_STATES or error.sqlstate[:2] in _TRANSIENT_CLASSES
    return isinstance(error, OperationalError)


def is_data_fault(error: BaseException) -> bool:
    """Whether the database, or its client, refuses the values that it was given, and will again: a
    constraint, a value out of range or of another type, an exception that a function raised.

    Narrower than `not is_transient(error)`: a missing table, a missing right or a corrupt index says nothing
    about the values. Who works through events treats each psycopg.Error that is no data fault as passing.
    """
    if not isinstance(error, Error):
        return False
    if error.sqlstate is not None:
        return error.sqlstate[:2] in _DATA_CLASSES
    return not isinstance(
        error, OperationalError
    )  # of the client: a NUL in a text, a type that it can't send
