"""What only a superuser closes (millrace/postgres/bootstrap.sql): which of it is open here."""

from typing import LiteralString

from psycopg import AsyncConnection

from millrace.postgres.database import session_options

# Who may do what without any grant; and the logins that can take as much of the server as they like.
_OPEN: LiteralString = """
    WITH functions AS (
        SELECT CASE WHEN proname ~ 'advisory' THEN 'advisory locks' WHEN proname ~ '^lo' THEN 'large objects'
                    ELSE proname END AS what
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
            AND (proname ~ '^(pg_(try_)?advisory_|lo_)' OR proname IN (
                'loread', 'lowrite', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
                'pg_logical_emit_message', 'pg_export_snapshot', 'pg_current_xact_id', 'txid_current'))
    ), logins AS (
        SELECT DISTINCT r.rolname, r.rolconnlimit, r.rolconfig
        FROM pg_catalog.pg_roles AS r JOIN pg_catalog.pg_auth_members AS m ON m.member = r.oid
        WHERE m.roleid::regrole::text IN ('millrace_service', 'millrace_board', 'millrace_operator')
            AND NOT r.rolsuper AND NOT r.rolcreaterole AND r.rolcanlogin
            AND has_database_privilege(r.oid, current_database(), 'CONNECT')
    )
    SELECT DISTINCT 'everybody may use ' || what FROM functions
    UNION ALL
    SELECT 'everybody may connect to the database ' || datname FROM pg_catalog.pg_database
    WHERE datname IN ('postgres', 'template1', current_database())
        AND has_database_privilege('public', oid, 'CONNECT')
    UNION ALL
    SELECT 'the login ' || rolname || ' has no connection limit' FROM logins WHERE rolconnlimit < 0
    UNION ALL
    SELECT 'the login ' || rolname || ' has no temp_file_limit' FROM logins
    WHERE NOT coalesce(array_to_string(rolconfig, ',') ~ 'temp_file_limit=', false)
    ORDER BY 1
"""


async def not_hardened(url: str) -> list[str]:
    """One line for each thing that the server leaves open in the database at `url`; none after a superuser
    has run the bootstrap. Raises psycopg.Error."""
    async with await AsyncConnection.connect(
        url, autocommit=True, connect_timeout=5, options=session_options()
    ) as connection:
        return [line for (line,) in await (await connection.execute(_OPEN)).fetchall()]
