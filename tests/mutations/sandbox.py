"""A copy of the project to put bugs into, and what tests say there. The working tree stays as it is."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from infra.local.home import cache_directory
from tests.mutations.anchor import locate
from tests.mutations.mutation import Mutation

LIMIT = 300.0  # seconds that the tests of one mutation may take


class MutationOutcome(StrEnum):
    """Of some tests."""

    PASSED = "passed"
    FAILED = "failed"
    """A test said no."""
    BROKEN = "broken"
    """Nothing was tested: an error before a test began, no such test, or no end."""


@dataclass(frozen=True, slots=True)
class Run:
    """What tests said, how long they took (seconds), and the end of what they printed."""

    outcome: MutationOutcome
    seconds: float
    output: str


class Sandbox:
    """The copy in `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, tests: Sequence[str]) -> Run:
        """Runs them on the copy as it is."""
        report = self._root / "junit.xml"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        output = self._pytest([*tests, f"--junitxml={report}"])
        outcome = _judge(report) if output is not None else MutationOutcome.BROKEN
        said = output if output is not None else f"no end within {LIMIT:.0f} s"
        return Run(outcome, time.monotonic() - began, said[-3000:])

    def run_with(self, mutation: Mutation) -> Run:
        """Runs its tests while the bug is in the copy. Raises NotFound."""
        place = locate(mutation, self._root)
        sound = place.file.read_text()
        place.file.write_text(place.mutated(mutation.replace))
        try:
            return self.run(mutation.tests)
        finally:
            place.file.write_text(sound)

    def _pytest(self, arguments: Sequence[str]) -> str | None:
        """What it printed; None when it came to no end."""
        environment = os.environ | {"PYTHONPATH": str(self._root), "MILLRACE_CACHE": str(cache_directory())}
        environment.pop("CI", None)  # what these tests need is their own affair
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments],
            cwd=self._root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            return process.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # its servers end with it
            process.wait()
            return None


@contextmanager
def open_sandbox(project: Path) -> Iterator[Sandbox]:
    """Copies what git knows of, and what it would: changes that are not committed are in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=project, capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory(prefix="millrace-mutants-") as folder:
        root = Path(folder)
        for name in listed.stdout.decode().split("\0"):
            if name and (project / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, root / name)
        yield Sandbox(root)


def _judge(report: Path) -> MutationOutcome:
    """By the report, since pytest's exit code is the same for a test that failed and for a server that did
    not start."""
    if not report.exists():
        return MutationOutcome.BROKEN
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    if any(case.find("failure") is not None for case in cases):
        return MutationOutcome.FAILED
    if not cases or any(case.find("error") is not None or case.find("skipped") is not None for case in cases):
        return MutationOutcome.BROKEN
    return MutationOutcome.PASSED
