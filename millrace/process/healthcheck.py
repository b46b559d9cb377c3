"""`python -m millrace.process.healthcheck ORDER_INTERNAL_PORT`: a container's health check. Exits 0 when
/readyz answers 200.

The argument names the environment variable that holds the port. What a service that isn't ready says is
printed, so that `docker inspect` shows what it waits for. Standard library only: it runs every few seconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

from millrace.runtime.printable import line

_TIMEOUT = 2.0  # seconds


def check(port: int) -> tuple[bool, str]:
    """Whether the service on this port of this host is ready, and what it says."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200, answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return False, f"no answer on port {port}: {error or type(error).__name__}"
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """The exit code: 0 ready, 1 not (Docker reserves all others)."""
    variable = arguments[0] if arguments else ""
    port = os.environ.get(variable, "")
    if not port.isdecimal():
        sys.stdout.write(
            line(f"millrace.process.healthcheck: {variable or 'its argument'} names no port") + "\n"
        )
        return 1
    ready, said = check(int(port))
    sys.stdout.write(line(said) + "\n")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
