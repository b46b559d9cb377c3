"""Takes the framework as a wheel: builds it, installs it into fresh environments, makes two services there
and runs their tests.

    .venv/bin/python .ci/wheel.py

Nothing of this repository is on the path there. Each supported version of Python that this machine has is
tried; one that it lacks is printed as UNPROVEN, unless it is the one that this runs on.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.local.home import REPOSITORY
from infra.testing import KafkaServer, PostgresServer, temporary_home

VERSIONS = ("3.11", "3.13")
WITHIN = 600  # seconds for a command
UV = str(REPOSITORY / ".venv" / "bin" / "uv")


class Failed(Exception):
    """The wheel does not do alone what it does here."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*argv: str | Path, cwd: Path = REPOSITORY, **settings: str) -> str:
    """What the command prints. Raises Failed with its last lines."""
    started = time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    shown = " ".join(Path(one).name for one in map(str, argv))
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
        raise Failed(f"{shown} exited with {done.returncode}:\n{tail}")
    say(f"   {time.monotonic() - started:6.1f} s  {shown}")
    return done.stdout


def main() -> int:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as directory, temporary_home() as home:
        work = Path(directory)
        run(UV, "build", "--quiet", "--wheel", "--out-dir", work / "dist", "millrace")
        (wheel,) = (work / "dist").glob("*.whl")
        kafka, postgres = KafkaServer(home), PostgresServer(home, fsync=False)
        asyncio.run(_start(kafka, postgres))
        servers = {
            "MILLRACE_TEST_KAFKA": kafka.bootstrap_servers,
            "MILLRACE_TEST_POSTGRES": postgres.superuser_url(),
        }
        for version in sorted({here, *VERSIONS}):
            if interpreter := sys.executable if version == here else _interpreter(version):
                try_out(wheel, interpreter, work / version, servers)
            else:
                say(f"Python {version}: UNPROVEN, this machine has none")
    return 0


def try_out(wheel: Path, interpreter: str, project: Path, servers: dict[str, str]) -> None:
    """An empty project: two services, one of which hears the other, linted and tested."""
    project.mkdir()
    programs = project / ".venv" / "bin"
    run(UV, "venv", "--quiet", "--python", interpreter, project / ".venv")
    packages = [f"millrace[scaffold,testing] @ file://{wheel}", "ruff"]
    run(UV, "pip", "install", "--quiet", "--python", programs / "python", *packages)
    millrace = programs / "millrace"
    run(millrace, "new", "service", "cart", cwd=project)
    run(millrace, "generate", cwd=project)
    run(millrace, "new", "service", "payment", "--hears", "carts.events:CartOpened", cwd=project)
    run(millrace, "generate", cwd=project)
    run(millrace, "generate", "--check", cwd=project)
    run(programs / "ruff", "check", ".", cwd=project)
    said = run(programs / "python", "-m", "pytest", "-q", cwd=project, **servers)
    say(f"Python {project.name}: {said.splitlines()[-1]}")


async def _start(*servers: KafkaServer | PostgresServer) -> None:
    await asyncio.gather(*(server.start() for server in servers))


def _interpreter(version: str) -> str:
    """Where this machine has that Python, also behind pyenv; empty: nowhere."""
    found = subprocess.run(
        [UV, "python", "find", "--no-python-downloads", version], capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        return found.stdout.strip()
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    return next((str(one) for one in sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)), "")


if __name__ == "__main__":
    sys.exit(main())
