"""Anyone who looks at all events looks over canaries: handlers, invariants, rebuilds, audits."""

from contextlib import AsyncExitStack

from infra.testing import KafkaServer, PostgresServer
from millrace.canary.sender import CanarySender
from millrace.rebuild.rebuild import Rebuild
from tests.integration.audit_kit import AuditKit, found, open_audit_kit
from tests.integration.store_kit import running
from tests.support import eventually


async def test_an_audit_and_a_rebuild_find_what_they_would_find_without_canaries(
    postgres: PostgresServer, kafka: KafkaServer
) -> None:
    async with AsyncExitStack() as stack:
        kit = await stack.enter_async_context(open_audit_kit(postgres, kafka))
        senders = [
            CanarySender(pool=each.pool, store=each.store, topic=topic, interval=0.1, leads=lambda: True)
            for each, topic in ((kit.speaker, kit.heard), (kit.service, kit.own))
        ]
        async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
            async with running(*senders):
                for n in range(12):
                    await kit.speaker.append(f"stream-{n % 4}", n)
                await eventually(
                    lambda: three_listeners_passed_all_partitions(kit), 60.0, "canaries everywhere"
                )
            report = await kit.settled()  # with read models built again, row for row

        assert found(report) == {}
        sent = await canaries(kit)
        assert report.checks[1].figures["events"] == 12 + sent  # echoes and canaries
        assert await kit.service.fetch("SELECT 1 FROM parked_events") == []

        live, noted = await rows(kit), await kit.service.fetch("SELECT * FROM canaries ORDER BY 1, 2")
        heard = next(feed for feed in kit.definition.feeds if feed.topics)
        outcome = await Rebuild(heard, kit.service.database.service, kafka.bootstrap_servers).run(verify=True)
        assert outcome.comparison is not None
        assert outcome.comparison.equal
        assert outcome.live
        assert await rows(kit) == live
        assert await kit.service.fetch("SELECT * FROM canaries ORDER BY 1, 2") == noted, (
            "a rebuild passes no canary"
        )


async def three_listeners_passed_all_partitions(kit: AuditKit) -> bool:
    """The saga-like one that wants every type, the read model of the topic, and that of the service's
    store."""
    found = dict(await kit.service.fetch("SELECT listener, count(*) FROM canaries GROUP BY 1"))
    return found == {kit.name: 3, kit.feeding: 3, "totals_v1": 3}


async def canaries(kit: AuditKit) -> int:
    """How many there are in the store of the audited service."""
    [(number,)] = await kit.service.fetch("SELECT count(*) FROM events WHERE type = 'CanarySent'")
    assert number >= 3
    return int(number)


async def rows(kit: AuditKit) -> list[object]:
    found: list[object] = list(await kit.service.fetch("SELECT * FROM heard_v1.totals ORDER BY 1"))
    assert len(found) == 4
    return found
