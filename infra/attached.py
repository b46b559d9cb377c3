"""Running a service's own command on this terminal, as if it had been typed here."""

import os
import signal
import subprocess
from types import FrameType

from infra.local.process import ProgramCommand

# What a program must know to draw on the terminal that it is given.
_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


def run_attached(command: ProgramCommand) -> int:
    """Run `command` with this process's terminal; returns its exit code (128 + the signal that ended it).

    Ctrl-C reaches it directly, because it is in the same process group; it decides what to do, and this
    process waits for that. SIGTERM is passed on.
    """
    terminal = {name: os.environ[name] for name in _TERMINAL if name in os.environ}

    def leave_it_to_the_command(number: int, frame: FrameType | None) -> None:
        """Not SIG_IGN: an ignored signal would be ignored by the command too."""

    before = signal.signal(signal.SIGINT, leave_it_to_the_command)
    process = subprocess.Popen(
        [str(part) for part in command.argv], env=command.environment() | terminal, cwd=command.cwd
    )
    terminated = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated)
        if process.poll() is None:
            process.kill()
    return code if code >= 0 else 128 - code
