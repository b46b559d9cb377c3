"""The tables of a read model: a schema per version, and views under stable names that readers use."""

from psycopg import sql

from chassis.database import Connection
from chassis.read_model import ReadModel


async def create_read_model(connection: Connection, read_model: ReadModel) -> None:
    """Create the schema `<name>_v<version>` with the read model's tables, inside the caller's transaction.

    The service may write them, readers may read them. A table gets a view of its name in `public` unless an
    earlier version has one: that goes on serving until the new version has caught up.
    """
    schema = sql.Identifier(read_model.schema)
    await connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    await connection.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(schema))
    await connection.execute(read_model.tables.encode())
    for grant in (
        "GRANT USAGE ON SCHEMA {} TO millrace_service, millrace_reader",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO millrace_service",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO millrace_service",
        "GRANT SELECT ON ALL TABLES IN SCHEMA {} TO millrace_reader",
    ):
        await connection.execute(sql.SQL(grant).format(schema))
    for table in await _tables(connection, read_model.schema):
        await _create_view(connection, schema, table)
    await connection.execute("SET LOCAL search_path TO DEFAULT")


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
