"""A rolling deployment: programs of the version before the migration of names go on, with the statements they
have."""

from typing import Any, LiteralString

import pytest

from infra.testing import DatabaseUrls
from millrace.migrations import migrate
from millrace.postgres.database import connect

# As the version before executed them, word for word.
NOTE: LiteralString = """
    INSERT INTO public.troubles AS t (
        worker, topic, partition, place, topic_id, event_id, event_type, stream_id, attempts, error_class, error)
    SELECT %s::text, new.* FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::uuid[], %s::uuid[], %s::text[], %s::text[],
                                       %s::int[], %s::text[], %s::text[]) AS new ORDER BY 2, 3
    ON CONFLICT (worker, topic, partition) DO UPDATE SET
        since = CASE WHEN t.place = excluded.place THEN t.since ELSE excluded.since END,
        attempts = CASE WHEN t.place = excluded.place THEN greatest(t.attempts + 1, excluded.attempts)
                        ELSE excluded.attempts END,
        place = excluded.place, topic_id = excluded.topic_id, event_id = excluded.event_id,
        event_type = excluded.event_type, stream_id = excluded.stream_id, error_class = excluded.error_class,
        error = excluded.error, last_at = excluded.last_at
"""  # noqa: E501
PASSED: LiteralString = """
    DELETE FROM public.troubles AS t USING unnest(%s::text[], %s::int[], %s::bigint[]) AS passed (topic, partition, place)
    WHERE t.worker = %s AND t.topic = passed.topic AND t.partition = passed.partition AND t.place < passed.place
"""  # noqa: E501
FORGET: LiteralString = "DELETE FROM public.troubles WHERE worker = %s"
BOARD: LiteralString = """
    SELECT json_agg(json_build_object('worker', t.worker, 'topic', t.topic, 'partition', t.partition, 'place', t.place,
        'topic_id', t.topic_id, 'event_type', t.event_type, 'stream_id', t.stream_id, 'attempts', t.attempts,
        'error', left(split_part(t.error, E'\\n', 1), 200), 'since', t.since, 'last', t.last_at))
    FROM public.troubles t
"""  # noqa: E501
AUDIT: LiteralString = """
    SELECT c.position, t.error FROM projection_checkpoints AS c
    LEFT JOIN troubles AS t ON t.worker = 'projector ' || c.read_model || ' v' || c.version AND t.place > c.position
    WHERE c.read_model = %s AND c.version = %s
"""  # noqa: E501
TAKE_OVER: LiteralString = "SELECT public.take_over_read_model_copy(%s, %s)"
STALLS: LiteralString = (
    "SELECT topic, partition, position, attempts, error, since < last_at FROM stalls ORDER BY 2"
)


async def done(url: str, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
    async with await connect(url, name="old-program") as connection:
        cursor = await connection.execute(statement, values or None)
        return await cursor.fetchall() if cursor.description else []


def row(partition: int, place: int, attempts: int = 1) -> list[list[Any]]:
    return [
        [value] for value in ("t", partition, place, None, None, "Counted", "c-1", attempts, "E", "E: no")
    ]


@pytest.fixture
async def migrated(database: DatabaseUrls) -> DatabaseUrls:
    await migrate(database.migrator)
    return database


async def test_an_old_worker_writes_its_stalls_where_the_new_program_reads_them(
    migrated: DatabaseUrls,
) -> None:
    await done(migrated.service, NOTE, "group", *row(0, 7))
    await done(migrated.service, NOTE, "group", *row(0, 7))
    await done(migrated.service, NOTE, "group", *row(1, 3))
    assert await done(migrated.service, STALLS) == [
        ("t", 0, 7, 2, "E: no", True),
        ("t", 1, 3, 1, "E: no", False),
    ]

    await done(migrated.service, PASSED, ["t", "t"], [0, 1], [8, 3], "group")
    assert [stall[1:3] for stall in await done(migrated.service, STALLS)] == [(1, 3)], "1 was not passed"
    await done(migrated.service, FORGET, "group")
    assert await done(migrated.service, STALLS) == []


async def test_an_old_board_and_an_old_audit_read_the_stalls_of_a_new_program(migrated: DatabaseUrls) -> None:
    await done(migrated.service, "INSERT INTO projection_checkpoints VALUES ('totals', 1, 5)")
    await done(
        migrated.service,
        "INSERT INTO stalls (worker, position, attempts, error_class, error)"
        " VALUES ('projector totals v1', 6, 2, 'KeyError', 'KeyError n')",
    )
    [([shown],)] = await done(migrated.board, BOARD)
    assert (shown["worker"], shown["place"], shown["error"]) == ("projector totals v1", 6, "KeyError n")
    assert await done(migrated.service, AUDIT, "totals", 1) == [(5, "KeyError n")]


async def test_an_old_rebuild_makes_its_copy_live(migrated: DatabaseUrls) -> None:
    async with await connect(migrated.superuser, name="owner") as owner:
        await owner.execute("SET ROLE millrace_owner")
        await owner.execute(
            "INSERT INTO read_models (name, version, tables) VALUES ('totals', 1, 'CREATE TABLE totals ()')"
        )
    await done(migrated.service, "SELECT begin_read_model_copy('totals', 1)")
    await done(migrated.service, TAKE_OVER, "totals", 1)
    assert await done(migrated.service, "SELECT name, copy FROM read_model_copies") == [("totals", "live")]
