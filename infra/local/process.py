"""One detached process with a log file and a pid file that survives its starter and is not fooled by pid
reuse."""

import asyncio
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.errors import StackError

LOG_LIMIT_BYTES = 20 * 1024 * 1024
PRIVATE = 0o077
"""The umask of what the stack starts: nobody else of the machine reads what it writes."""
INHERITED_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV")


@dataclass(frozen=True)
class ProgramCommand:
    """What to run. `env` is added to a short list of neutral variables; nothing else is inherited, so that
    one component never sees the credentials of another."""

    argv: Sequence[str | Path]
    env: Mapping[str, str]
    cwd: Path
    user: str | None = None

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED_ENVIRONMENT if name in os.environ}
        return inherited | dict(self.env)


class ManagedProcess:
    """Starts, finds and signals one process by its pid file.

    The pid file holds the creation time beside the pid: a pid that the system gave to another process after
    a reboot or a crash is then not taken for ours.
    """

    def __init__(self, pid_file: Path, log: Path) -> None:
        self._pid_file = pid_file
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: ProgramCommand) -> None:
        """Starts the command detached from this process and its terminal; output goes to the log file."""
        self._rotate_log()
        user, group, extra_groups = identity(command.user)
        with open(self.log, "ab", opener=private) as output:
            self._child = subprocess.Popen(
                [str(part) for part in command.argv],
                env=command.environment(),
                cwd=command.cwd,
                umask=PRIVATE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=extra_groups,
            )
        created = psutil.Process(self._child.pid).create_time()
        write_atomically(self._pid_file, json.dumps({"pid": self._child.pid, "created": created}))

    def find(self) -> psutil.Process | None:
        """The running process, or None. A dead child of ours is reaped on the way."""
        if self._child is not None:
            self._child.poll()
        try:
            record = json.loads(self._pid_file.read_text())
            process = psutil.Process(record["pid"])
            # Linux derives the creation time from the boot time, which clock corrections move a little.
            ours = abs(process.create_time() - record["created"]) < 2.0
            return process if ours and is_alive(process) else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), when it was started by this object and has ended."""
        return self._child.poll() if self._child is not None else None

    async def stop(self, stop_signal: signal.Signals, grace: float) -> None:
        """Asks it to end and waits; after `grace` seconds kills it and everything it started."""
        process = self.find()
        if process is None:
            return
        tree = family(process)
        send(tree, signal.SIGCONT)  # a paused process would never see the request
        send([process], stop_signal)
        if not await self._ended(tree, grace):
            send(tree, signal.SIGKILL)
            await self._ended(tree, 10.0)
        self._pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """Ends it and its children at once, as a crash would, and waits until they are gone."""
        await self._ended(self.kill_now(), 10.0)

    def kill_now(self) -> list[psutil.Process]:
        """Like `kill`, without waiting. Returns what was killed."""
        process = self.find()
        tree = family(process) if process is not None else []
        send(tree, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)
        return tree

    async def pause(self) -> None:
        """Freezes it and its children (SIGSTOP), and returns when they are frozen."""
        self._send_all(signal.SIGSTOP)
        # A signal is delivered a moment after it was sent.
        await until(lambda: self.paused or self.find() is None, within=5.0)

    def resume(self) -> None:
        """Lets a paused process go on (SIGCONT)."""
        self._send_all(signal.SIGCONT)

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        return last_lines(self.log, lines)

    @property
    def paused(self) -> bool:
        process = self.find()
        return process is not None and all(is_stopped(member) for member in family(process))

    def _send_all(self, number: signal.Signals) -> None:
        process = self.find()
        if process is not None:
            send(family(process), number)

    async def _ended(self, tree: Sequence[psutil.Process], within: float) -> bool:
        def ended() -> bool:
            if self._child is not None:
                self._child.poll()  # reaps it; it would stay a zombie otherwise
            return not any(is_alive(process) for process in tree)

        return await until(ended, within)

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))


async def until(condition: Callable[[], bool], within: float) -> bool:
    """Polls the condition; returns whether it came true within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        await asyncio.sleep(0.02)
    return condition()


def private(path: str, flags: int) -> int:
    """An opener for `open`: a file that is made is its owner's alone."""
    return os.open(path, flags, 0o600)


def identity(user: str | None) -> tuple[int | None, int | None, list[int] | None]:
    """user, group and extra_groups for subprocess, to drop root for the named user; None: stay who we are."""
    if user is None:
        return None, None, None
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid, []


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all its descendants. By descent and not by process group: Postgres backends leave
    it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def is_alive(process: psutil.Process) -> bool:
    """Whether any thread of the process still runs. A killed JVM is a zombie a while before its last thread
    is gone and its sockets are closed."""
    try:
        return process.is_running() and (
            process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
        )
    except psutil.NoSuchProcess:  # also a zombie whose threads the system does not tell
        return False


def is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to those that still live (psutil checks that the pid was not reused).

    Raises StackError when the system forbids it.
    """
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue  # it ended in the meantime, which is what any of our signals may do
        except psutil.AccessDenied:
            raise StackError(f"no right to signal process {process.pid}: another user started it") from None


def last_lines(path: Path, lines: int) -> str:
    """The last `lines` lines of a file, reading no more than its last 64 KiB; empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file in one step, so that a reader never sees half of it. Mode 0600."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
