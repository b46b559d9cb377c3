"""The tables of a read model: a schema per version, and views under stable names that readers use."""

from psycopg import sql

from chassis.database import Connection
from chassis.read_model import Copy, ReadModel

_REGISTER = """
    INSERT INTO public.read_models (name, version, tables) VALUES (%s, %s, %s)
    ON CONFLICT (name, version) DO UPDATE SET tables = excluded.tables
"""


async def create_read_model(connection: Connection, read_model: ReadModel) -> None:
    """Create the schema `<name>_v<version>` with the read model's tables, inside the caller's transaction.

    The service may write them, readers may read them. A table gets a view of its name in `public` unless an
    earlier version has one: that goes on serving until the new version has caught up.
    """
    await register_read_model(connection, read_model)
    await connection.execute(
        "SELECT public.create_read_model_copy(%s, %s, %s)",
        (read_model.name, read_model.version, str(Copy.LIVE)),
    )
    schema = sql.Identifier(read_model.schema)
    for table in await _tables(connection, read_model.schema):
        await _create_view(connection, schema, table)


async def register_read_model(connection: Connection, read_model: ReadModel) -> None:
    """Let the service have copies of it, with these tables."""
    await connection.execute(_REGISTER, (read_model.name, read_model.version, read_model.tables))


async def _tables(connection: Connection, schema: str) -> list[str]:
    cursor = await connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", (schema,)
    )
    return [name for (name,) in await cursor.fetchall()]


async def _create_view(connection: Connection, schema: sql.Identifier, table: str) -> None:
    existing = await connection.execute(
        "SELECT FROM pg_views WHERE schemaname = 'public' AND viewname = %s", (table,)
    )
    if await existing.fetchone() is not None:
        return
    view = sql.Identifier("public", table)
    await connection.execute(
        sql.SQL("CREATE VIEW {} AS SELECT * FROM {}.{}").format(view, schema, sql.Identifier(table))
    )
    await connection.execute(sql.SQL("GRANT SELECT ON {} TO millrace_service, millrace_reader").format(view))
