"""A service that is told to stop while it still starts ends at once."""

import signal
import subprocess
import sys

STARTING = """
from millrace.runtime.early_stop import obey_sigterm
obey_sigterm()
print("imports begin", flush=True)
input()
"""


def test_sigterm_during_the_start_ends_the_process_with_the_usual_code() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imports begin\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143
