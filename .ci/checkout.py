"""A clone of what is committed, with an environment and a stack of its own, in which a page's commands are
carried out."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.home import REPOSITORY, cache_directory

OFFSET = 4300  # away from a stack on the usual ports
WITHIN = 900  # seconds for a command


class Failed(Exception):
    """What a page promises does not come true."""


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def url(port: int) -> str:
    """Where the clone's stack has what is usually on `port`."""
    return f"http://127.0.0.1:{port + OFFSET}"


class Checkout:
    """Runs commands in the clone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = os.environ | {
            "MILLRACE_HOME": str(path / ".millrace"),
            "MILLRACE_PORT_OFFSET": str(OFFSET),
            "MILLRACE_CACHE": str(cache_directory()),
            "DOCKER_HOST": "unix:///nonexistent",  # as for all unit tests: none needs an engine
        }
        self._environment.pop("PYTHONPATH", None)

    def run(self, *argv: str) -> str:
        """What the command prints; ports of the usual stack are moved. Raises Failed with its last lines."""
        argv = tuple(
            re.sub(r"localhost:(\d+)", lambda port: f"localhost:{int(port[1]) + OFFSET}", one) for one in argv
        )
        started = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=self.path,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
            raise Failed(f"{' '.join(argv)} exited with {done.returncode}:\n{tail}")
        say(f"   {time.monotonic() - started:6.1f} s  {' '.join(argv)}")
        return done.stdout

    def changed(self) -> list[str]:
        """What git sees, a line per file."""
        return self.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()


@contextmanager
def cloned() -> Iterator[Checkout]:
    """A clone with its environment; its stack is down in the end."""
    with TemporaryDirectory() as directory:
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), directory], check=True)
        checkout = Checkout(Path(directory))
        checkout.run("make", "fetch")
        try:
            yield checkout
        finally:
            with suppress(Failed):  # what went wrong before is what counts
                checkout.run("make", "down")
