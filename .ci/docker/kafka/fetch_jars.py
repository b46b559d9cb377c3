"""Fetches Apache Kafka's jars from their Maven coordinates into the folder that is named.

The same resolution as infra/local/kafka_jars.py, plus what the official image has: the command-line tools and
log4j, which fit the versions that Kafka resolves to.
"""

import shutil
import sys
import time
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from jgo.parse import Coordinate

KAFKA = "org.apache.kafka:kafka_2.13:4.1.1"
# Without what they depend on: that is there, or (the tools' Connect and Jetty) for commands nobody calls
# here. Resolved along, they would replace some of Kafka's own libraries with older ones.
ALONE = ("org.apache.kafka:kafka-tools:4.1.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3")
ATTEMPTS = 4


def fetch(folder: Path) -> int:
    """Puts the jars into `folder`, tells how many. Raises what jgo raises."""
    context = MavenContext(resolver=PythonResolver(), repo_cache=Path("/tmp/maven"), timeout=60)  # noqa: S108
    kafka, *alone = (context.create_dependency(Coordinate.parse(text)) for text in (KAFKA, *ALONE))
    inputs, transitive = context.resolver.resolve([kafka])
    needed = [*inputs, *(d for d in transitive if d.scope in ("compile", "runtime")), *alone]
    folder.mkdir(parents=True, exist_ok=True)
    for dependency in needed:
        shutil.copy(dependency.artifact.resolve(), folder)
    return len(needed)


def main() -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            sys.stdout.write(f"{fetch(Path(sys.argv[1]))} jars\n")
        except Exception as error:  # jgo lets every kind of network error through
            if attempt == ATTEMPTS:
                raise
            sys.stderr.write(f"attempt {attempt}: {error}\n")
            time.sleep(2**attempt)  # a registry that is busy, not an outcome to wait for
        else:
            return


if __name__ == "__main__":
    main()
