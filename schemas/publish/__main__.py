"""`make schemas`, or python -m schemas.publish [--check]."""

import argparse
import sys
from collections.abc import Sequence

from schemas.publish import PUBLISHED, examine, publish


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 when there is something to do by hand (with --check:
    anything)."""
    parser = argparse.ArgumentParser(
        prog="python -m schemas.publish", description="Publish the JSON Schema of every event version."
    )
    parser.add_argument("--check", action="store_true", help="only say what is wrong; write nothing")
    if parser.parse_args(arguments).check:
        findings = [str(finding) for finding in examine()]
        _say(findings or ["All published schemas hold."])
        return 1 if findings else 0
    try:
        written = publish()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _say(
        [f"wrote schemas/published/{path.relative_to(PUBLISHED)}" for path in written] or ["Nothing changed."]
    )
    return 0


def _say(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
