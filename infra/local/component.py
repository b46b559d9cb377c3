"""What every component of the local stack can do: start, stop, crash, freeze, and say how it is."""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from infra.local.errors import ComponentError, NotReady, StackError
from infra.local.home import Home
from infra.local.ports import Port, listeners, name_of, require_free
from infra.local.process import ManagedProcess, ProgramCommand, family

Progress = Callable[[str, str], None]
"""Told (component, what it does now) while a stack comes up or goes down."""


def silent(_component: str, _message: str) -> None:
    """A Progress that nobody watches."""


class Component(ABC):
    """One process of the stack with its ports, data directory and log."""

    start_within = 60.0
    steady_for = 0.0
    """Seconds for which a component that was started must stay ready before it counts as ready."""
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
    def command(self) -> ProgramCommand:
        """What to run."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the component does its work; raises NotReady with the reason."""

    def require_settings(self) -> None:  # noqa: B027  # most components have none of the user's
        """Raises StackError when the user set a variable that the stack decides. Called before each start."""

    async def prepare(self, progress: Progress) -> None:  # noqa: B027  # most components need nothing
        """Done before a start: creates data directories, fetches binaries. Nothing by default."""

    @property
    def running(self) -> bool:
        return self.process.find() is not None

    async def start(self, progress: Progress = silent) -> None:
        """Starts it unless it runs (a paused one goes on), and returns when it is ready.

        Raises PortTaken, or ComponentError when it ends or is not ready in `start_within` seconds.
        """
        self.require_settings()
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
        await self.wait_ready(self.steady_for)
        progress(self.name, "ready")

    async def wait_ready(self, steady_for: float = 0.0) -> None:
        """Polls until `ready` has held for `steady_for` seconds without a break.

        Raises ComponentError when the process ends or time runs out.
        """
        began = time.monotonic()
        since: float | None = None
        was_ready = False
        reason = ""
        while time.monotonic() < began + self.start_within + steady_for:
            if not self.running:
                raise self._ended(was_ready=was_ready)
            try:
                await asyncio.wait_for(self.ready(), timeout=5.0)
                since, was_ready = since or time.monotonic(), True
                if time.monotonic() >= since + steady_for:
                    return
            except NotReady as missing:
                since, reason = None, str(missing)
            except TimeoutError:
                since, reason = None, "no answer in 5 s"
            await asyncio.sleep(0.05)
        raise self.failure(f"not ready after {time.monotonic() - began:.0f} s: {reason}")

    async def ready(self) -> None:
        """As `check`; and it is this process that answers, not another one that holds its port."""
        await self.check()
        process = self.process.find()
        ours = {member.pid for member in family(process)} if process is not None else set()
        for port in self.ports:
            for other in listeners(port.number):
                if other.pid not in ours:
                    raise NotReady(
                        f"port {port.number} is answered by {name_of(other)}, which is not the process that"
                        f" was"
                        f" started: end that process, or choose another port with {port.setting}=<port>"
                    )

    def _ended(self, *, was_ready: bool) -> ComponentError:
        code = self.process.exit_code
        how = "ended" + (f" with code {code}" if code is not None else "")
        return self.failure(f"{how} right after it had become ready" if was_ready else how)

    async def stop(self) -> None:
        """Ends it in good order; kills it when that takes longer than `stop_within` seconds."""
        await self.process.stop(self.stop_signal, self.stop_within)

    async def restart(self) -> None:
        self.require_settings()  # while it still runs
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
        return ComponentError(component=self.name, why=why, log=self.process.log, tail=self.process.tail())
