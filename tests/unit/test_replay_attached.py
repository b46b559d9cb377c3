"""A service's own command on this terminal: its exit code is ours, signals reach it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.local.home import REPOSITORY

MILLRACE = """
import sys
from pathlib import Path
from infra.attached import run_attached
from infra.local.process import ProgramCommand
sys.exit(run_attached(ProgramCommand((sys.executable, "-c", sys.argv[1]), {}, Path("/"))))
"""
WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(42)
"""


def start(command: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it on a terminal."""
    argv = (sys.executable, "-c", MILLRACE, command)
    return subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[str]]:
    """One whose command has begun."""
    process = start(WAITS)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process


def test_the_exit_code_is_passed_on() -> None:
    with start("import sys; sys.exit(3)") as process:
        assert process.wait(30) == 3


def test_ctrl_c_reaches_the_command_which_decides_what_to_do(waiting: subprocess.Popen[str]) -> None:
    os.killpg(waiting.pid, signal.SIGINT)
    assert waiting.wait(30) == 42


def test_a_request_to_stop_is_passed_on(waiting: subprocess.Popen[str]) -> None:
    waiting.terminate()
    assert waiting.wait(30) == 43


def test_a_command_that_was_killed_shows_it() -> None:
    with start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait(30) == 128 + signal.SIGKILL
