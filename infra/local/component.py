"""What every component of the local stack can do: start, stop, crash, freeze, and say how it is."""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from infra.local.errors import ComponentError, NotReady, StackError
from infra.local.home import Home
from infra.local.ports import Port, require_free
from infra.local.process import Command, ManagedProcess

Progress = Callable[[str, str], None]
"""Told (component, what it does now) while a stack comes up or goes down."""


def silent(_component: str, _message: str) -> None:
    """A Progress that nobody watches."""


class Component(ABC):
    """One process of the stack with its ports, data directory and log."""

    start_within = 60.0
    stop_within = 20.0
    stop_signal = signal.SIGTERM

    def __init__(self, name: str, home: Home, *ports: Port) -> None:
        self.name = name
        self.home = home
        self.ports = ports
        self.process = ManagedProcess(home.pid_file(name), home.log(name))

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the component answers."""

    @abstractmethod
    def command(self) -> Command:
        """What to run."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the component does its work; raises NotReady with the reason."""

    async def prepare(self, progress: Progress) -> None:  # noqa: B027  # most components need nothing
        """Done before a start: creates data directories, fetches binaries. Nothing by default."""

    @property
    def running(self) -> bool:
        return self.process.find() is not None

    async def start(self, progress: Progress = silent) -> None:
        """Starts it unless it runs (a paused one goes on), and returns when it is ready.

        Raises PortTaken, or ComponentError when it ends or is not ready in `start_within` seconds.
        """
        if self.running:
            if self.process.paused:
                self.process.resume()
            await self.wait_ready()
            return
        self.home.create()
        require_free(self.name, self.ports)
        await self.prepare(progress)
        progress(self.name, "starting")
        self.process.start(self.command())
        await self.wait_ready()
        progress(self.name, "ready")

    async def wait_ready(self) -> None:
        """Polls until `check` passes. Raises ComponentError when the process ends or time runs out."""
        deadline = time.monotonic() + self.start_within
        reason = ""
        while time.monotonic() < deadline:
            if not self.running:
                code = self.process.exit_code
                raise self.failure("ended" + (f" with code {code}" if code is not None else ""))
            try:
                await asyncio.wait_for(self.check(), timeout=5.0)
                return
            except NotReady as missing:
                reason = str(missing)
            except TimeoutError:
                reason = "no answer in 5 s"
            await asyncio.sleep(0.05)
        raise self.failure(f"not ready after {self.start_within:.0f} s: {reason}")

    async def stop(self) -> None:
        """Ends it in good order; kills it when that takes longer than `stop_within` seconds."""
        await self.process.stop(self.stop_signal, self.stop_within)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Crashes it: SIGKILL to it and its children."""
        await self.process.kill()

    async def pause(self) -> None:
        """Freezes it: connections stay open and nothing answers. Raises StackError when it does not run."""
        self._require_running()
        await self.process.pause()

    def resume(self) -> None:
        """Lets it go on. Raises StackError when it does not run."""
        self._require_running()
        self.process.resume()

    def _require_running(self) -> None:
        if not self.running:
            raise StackError(f"{self.name} does not run")

    def failure(self, why: str) -> ComponentError:
        return ComponentError(self.name, why, self.process.log, self.process.tail())
