"""A service's audit inside a test."""

from collections.abc import Collection

from millrace.operations.audit.audit import run_audit
from millrace.operations.audit.findings import Report, Severity
from millrace.operations.definition import ServiceDefinition
from millrace.process.settings import ServiceSettings
from millrace.testing.waiting import eventually


async def clean_audit(
    definition: ServiceDefinition,
    settings: ServiceSettings,
    *,
    pending: Collection[str] = (),
    within: float = 30.0,
) -> Report:
    """Audit the service until nothing is pending but findings of the kinds in `pending`; the report that says
    so.

    Fails at once if it finds a violation, after `within` seconds if something is still pending. Raises
    psycopg.Error and KafkaError if it can't read everything.
    """

    async def ended() -> Report:
        report = await run_audit(definition, settings, lambda *_: None)
        left = {kind: what for kind, what in _found(report, Severity.PENDING).items() if kind not in pending}
        assert report.violations or not left, f"{definition.name}: {left}"
        return report  # with violations at once: no wait helps

    report = await eventually(ended, within, "nothing is pending")
    assert report.violations == 0, f"{definition.name}: {_found(report, Severity.VIOLATION)}"
    return report


def _found(report: Report, severity: Severity) -> dict[str, list[str]]:
    """Kind -> what was found, in words."""
    return {
        kind: [one.what for one in kept]
        for check in report.checks
        for one, kind, _, kept in check.kinds()
        if one is severity
    }
