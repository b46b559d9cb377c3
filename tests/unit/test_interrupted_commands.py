"""Ctrl-C and SIGTERM end every command of a service, also if the cancellation is lost once."""

import signal
import subprocess
import sys

import pytest

from infra.local.home import REPOSITORY

COMMAND = """
import asyncio
from contextlib import suppress

from order_service.app import service
from millrace.operations.tools import Tools
from millrace.process.settings import ServiceSettings
from millrace.runtime import interruptible
from millrace.runtime.early_stop import obey_sigterm

interruptible.INSIST = 0.2
obey_sigterm()


class Settings(ServiceSettings):
    pass


def run(work):
    Tools(service.definition, Settings).run(lambda settings: work())

"""
DEAF = """
async def deaf():
    with suppress(asyncio.CancelledError):
        print("waiting", flush=True)
        await asyncio.Event().wait()
    await asyncio.Event().wait()  # the cancellation was lost

run(deaf)
"""
# Stopped between the start of a subprocess and the connection of its pipes.
STARTING = """
async def starting():
    loop = asyncio.get_running_loop()

    async def slow(*arguments):
        print("waiting", flush=True)
        await asyncio.sleep(1)
        return await type(loop).connect_write_pipe(loop, *arguments)

    loop.connect_write_pipe = slow
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=asyncio.subprocess.PIPE)
    await process.wait()

run(starting)
"""
EXIT = {
    signal.SIGINT: (130, "order-service: interrupted\n"),
    signal.SIGTERM: (143, ""),
}


@pytest.mark.parametrize("number", EXIT)
@pytest.mark.parametrize("work", [DEAF, STARTING], ids=["a lost cancellation", "a subprocess that starts"])
def test_a_command_ends_on_a_signal(work: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND + work],
        cwd=REPOSITORY,
        env={"DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nothing", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said) == EXIT[number]
