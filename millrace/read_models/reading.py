"""Reading read models: the version that this program knows, or an older one until that has been built.

The search path of a reading connection names the schemas of its read models, own version first, then older
ones: `orders_v3, orders_v2, orders_v1`. Postgres passes over schemas that don't exist, and a version's schema
has this name only once it is complete. So queries find the best copy that there is, by themselves, and the
next statement after a cutover finds the new one.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import OperationalError
from psycopg.errors import FeatureNotSupported, UndefinedColumn, UndefinedTable

from millrace.domain.errors import MillraceError
from millrace.postgres.database import READ_DEADLINES, CheckedPool, Connection, Pool, read_only_arguments
from millrace.read_models.model import ReadModel

# A query may have failed right before the cutover that would have answered it.
_NOT_LIVE = """
    SELECT mine.name || '_v' || mine.version FROM unnest(%s::text[], %s::int[]) AS mine (name, version)
    LEFT JOIN public.read_model_copies AS c ON c.name = mine.name AND c.version = mine.version
        AND c.copy = 'live'
    WHERE c.since IS NULL OR c.since > clock_timestamp() - interval '10 s'
"""


class ReadModelBuilding(MillraceError, OperationalError):
    """A query wants what only a new version of a read model has, and that is still being built.

    An OperationalError without a code: it passes (see millrace.postgres.database.is_transient).
    """


def open_reading_pool(
    url: str, *, name: str, max_size: int, read_models: Sequence[ReadModel], min_size: int = 1
) -> Pool:
    """A read-only connection pool (see `open_read_only_pool`) in which queries name tables without a schema.

    A query ends after 10 s, a wait for a lock after 5 s; both are transient
    (millrace.postgres.database.is_transient). A query for a table or column that is not there yet raises
    ReadModelBuilding inside `pool.connection()`.
    """
    path = search_path(read_models)
    arguments = read_only_arguments(url, name, min_size, max_size, search_path=path, **READ_DEADLINES)
    return _ReadingPool(read_models, **arguments)


def search_path(read_models: Sequence[ReadModel]) -> str:
    """Each read model's own version, then its older ones, then `public`."""
    schemas = [f"{model.name}_v{version}" for model in read_models for version in range(model.version, 0, -1)]
    return ",".join([*schemas, "public"])


class _ReadingPool(CheckedPool):
    def __init__(self, read_models: Sequence[ReadModel], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._versions = [model.name for model in read_models], [model.version for model in read_models]

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except (UndefinedTable, UndefinedColumn) as error:
                if building := await self._building(connection):
                    raise ReadModelBuilding(f"{', '.join(building)}: {error}") from error
                raise
            except FeatureNotSupported as error:
                # A prepared query gives other types than before: the cutover of a version that changed a
                # column's. The connection would go on refusing it; a new one prepares it again.
                if error.diag.source_function != "RevalidateCachedQuery":
                    raise
                await connection.close()
                raise ReadModelBuilding(f"a new version of a read model took over: {error}") from error

    async def _building(self, connection: Connection) -> list[str]:
        rows = await connection.execute(_NOT_LIVE, self._versions)
        return [schema async for (schema,) in rows]
