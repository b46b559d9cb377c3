"""A read model that is fed by topics: its changes become true together with the consumed positions."""

from collections.abc import Sequence

from millrace.application.reactions import Handler
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.events import RecordedEvent
from millrace.read_models.model import Copy, ReadModel


def handler_for(read_model: ReadModel, copy: Copy = Copy.LIVE) -> Handler:
    """The handler that applies a consumer's batches to this copy of `read_model`."""
    return _ReadModelHandler(read_model, copy)


class _ReadModelHandler:
    def __init__(self, read_model: ReadModel, copy: Copy) -> None:
        self.handles = read_model.handles
        self._read_model = read_model
        self._search_path = read_model.search_path(copy)

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        await unit.connection.execute("SELECT set_config('search_path', %s, true)", (self._search_path,))
        await self._read_model.apply(unit.connection, batch)
