"""The processes of a parallel rebuild end as they should when their work is done."""

from infra.testing import DatabaseUrls
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild.parallel import Job, fill_in_parallel
from tests.integration.rebuild_kit import NO_KAFKA, Totals
from tests.integration.store_kit import REGISTRY, open_store_kit


async def test_a_worker_that_is_done_ends_without_a_fault(database: DatabaseUrls) -> None:
    """It has a thread that waits for its parent's end in a read, and Python must not wait for that thread."""
    model = Totals()
    async with open_store_kit(database, model):
        job = Job(Feed(model, REGISTRY), Copy.LIVE, database.service, NO_KAFKA, goal={}, shards=[])
        await fill_in_parallel([job], lambda share, position: None)
