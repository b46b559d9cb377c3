"""Carries out a script for psql over a connection: where a test runs, psql need not be.

As much of psql as millrace/postgres/bootstrap.sql uses: `\\set`, `\\gexec`, `:name`, `:'name'`, `:"name"`,
comments.
"""

import re
from collections.abc import Iterator, Mapping

from psycopg import sql

from millrace.postgres.database import Connection

_COMMENT = re.compile(r"--.*")
_VARIABLE = re.compile(r"""(?<!:):(['"]?)(\w+)\1""")
_GEXEC = r"\gexec"


async def run_script(connection: Connection, script: str, variables: Mapping[str, str]) -> None:
    """Carry out `script`; `connection` must commit by itself. Raises psycopg.Error, KeyError for an unknown
    variable."""
    known = {"DBNAME": connection.info.dbname, **variables}
    for line in _statements(script):
        if line.startswith(r"\set "):
            name, *parts = line.split()[1:]
            known[name] = "".join(_substituted(part, known, connection) for part in parts)
            continue
        statement = _substituted(line.removesuffix(_GEXEC).removesuffix(";"), known, connection)
        cursor = await connection.execute(statement.encode())
        if line.endswith(_GEXEC):
            for row in await cursor.fetchall():
                await connection.execute(str(row[0]).encode())


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in _COMMENT.sub("", script).splitlines():
        statement = f"{statement} {line.strip()}".strip()
        if statement.startswith(r"\set ") or statement.endswith((";", _GEXEC)):
            yield statement
            statement = ""


def _substituted(text: str, known: Mapping[str, str], connection: Connection) -> str:
    def value(found: re.Match[str]) -> str:
        quote, plain = found[1], known[found[2]]
        if quote == "'":
            return sql.Literal(plain).as_string(connection)
        return sql.Identifier(plain).as_string(connection) if quote else plain

    return _VARIABLE.sub(value, text)
