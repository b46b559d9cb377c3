"""SIGTERM before there is anything to drain."""

import signal
import sys


def obey_sigterm() -> None:
    """End the process at once on SIGTERM, until the runner drains instead.

    In a container a service is process 1, and the kernel ignores a signal for which process 1 has no handler:
    a stop during the seconds in which modules are imported would wait for its whole grace period. So this
    comes first.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
