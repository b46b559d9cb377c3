"""A login to Postgres, as a setting: looked at before anything starts, so that a typing error is one line
and not a service that never reaches its database."""

from typing import Annotated, Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field

_EXPECTED = "expected postgresql://user:password@host:port/database"
_NEEDED = {"user": "user", "password": "password", "host": "host", "dbname": "database"}


def _database_url(value: str) -> str:
    """The URL itself. Raises ValueError, which repeats nothing of it."""
    given = _parsed(value)
    for part, said in _NEEDED.items():
        if not given.get(part):
            raise ValueError(f"it has no {said}; {_EXPECTED}")
    if not all(_is_port(port) for port in str(given.get("port") or "5432").split(",")):
        raise ValueError(f"its port is no number from 1 to 65535; {_EXPECTED}")
    return value


def _parsed(url: str) -> dict[str, Any]:
    """As libpq reads it, which takes several hosts, sockets and parameters."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError(_EXPECTED)
    try:
        return conninfo_to_dict(url)
    except (ProgrammingError, UnicodeError):  # they repeat pieces of it
        raise ValueError(_EXPECTED) from None


def _is_port(text: str) -> bool:
    """Empty where another host of the list has one: then it is Postgres' own."""
    return not text or (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535)


DatabaseUrl = Annotated[str, AfterValidator(_database_url), Field(repr=False)]
"""postgresql://user:password@host:port/database, or another spelling of it that libpq takes."""
