"""When a connection is read."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """Reading that was paused stays paused as long as `held()`: uvicorn resumes it at every answer."""

    def __init__(self, transport: asyncio.Transport, held: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._held = held

    def resume_reading(self) -> None:
        """Reads on, unless reading is held."""
        if not self._held():
            super().resume_reading()
