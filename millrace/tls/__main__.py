"""`python -m millrace.tls DIRECTORY SERVICE...`: makes and renews certificates, where no stack does it.

--owner 10001 gives the files to that user id.
"""

import argparse
import sys
from pathlib import Path

from millrace.domain.errors import MillraceError
from millrace.runtime.terminal import echo
from millrace.tls.keep import keep_certificates


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millrace.tls", description="Makes certificates.")
    parser.add_argument("directory", type=Path, help="one folder in it per service, and `ca`")
    parser.add_argument("services", nargs="+", metavar="SERVICE")
    parser.add_argument("--owner", type=int, help="user id that may read a service's files")
    given = parser.parse_args()
    try:
        made = keep_certificates(given.directory, given.services, owner=given.owner)
    except (MillraceError, OSError) as error:
        echo(str(error), err=True)
        return 1
    for service in made:
        echo(f"{service}: certificate made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
