"""What the local stack downloads, and what of it may go."""

import shutil

from infra.local.component import Progress
from infra.local.home import cache_directory
from infra.local.kafka_jars import KAFKA_VERSION, java, kafka_jars
from infra.local.postgres import binaries


async def fetch(progress: Progress) -> None:
    """Fetches and checks everything that a first start needs. Raises StackError naming what is missing."""
    prune_cache()
    await kafka_jars(progress)
    progress("kafka", f"Apache Kafka {KAFKA_VERSION}, Java at {java()}")
    progress("postgres", f"PostgreSQL at {binaries()}")


def prune_cache() -> None:
    """Removes the downloads of other versions and what interrupted downloads left."""
    for entry in cache_directory().glob("*"):
        if entry.name.startswith("kafka-") and entry.name != f"kafka-{KAFKA_VERSION}":
            shutil.rmtree(entry)
