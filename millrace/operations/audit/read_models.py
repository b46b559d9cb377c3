"""Check: a read model has the rows that its events give. The comparison itself is
millrace/rebuild/temporary_comparison.py's."""

from collections.abc import Iterable

from millrace.operations.audit.findings import Check, Finding, Severity, pending, violation
from millrace.operations.audit.progress import AuditProgress
from millrace.operations.audit.snapshot import Snapshot
from millrace.process.settings import ServiceSettings
from millrace.read_models.feed import Feed
from millrace.rebuild.progress import ReplayProgress
from millrace.rebuild.temporary_comparison import compare_with_rebuild
from millrace.rebuild.verify import Comparison, Difference
from millrace.runtime.errors import NotApplicable, ReplayError

_LONGEST = 60  # characters of a value that are shown
ON_ITS_WAY = 10.0  # seconds for which an event may wait to be projected: something always does


async def check_read_model(
    feed: Feed, service: str, settings: ServiceSettings, snapshot: Snapshot, progress: AuditProgress
) -> Check:
    """Compare the live copy of the feed's read model with its rebuild at the same place, and that place with
    the head.

    The comparison fixes a snapshot of its own (one transaction sees the rows and the position that they
    belong to). Rows of parked streams are left out: the consumers' check reports these.
    """
    model = feed.model
    check = Check(f"read model {model.schema}")
    check.add(_not_projected(model.schema, service, snapshot))

    def show(now: ReplayProgress) -> None:
        progress(check.name, now.done, now.total)

    try:
        comparison = await compare_with_rebuild(
            feed, settings.database_url, settings.kafka_bootstrap_servers, on_progress=show
        )
    except NotApplicable as error:
        remedy = "correct the read model and raise its version, deploy: the new version is built by itself"
        check.add([violation("not-applicable", str(error), remedy, read_model=model.name)])
    except ReplayError as error:
        check.add([pending("not-compared", str(error), "audit again later", read_model=model.name)])
    else:
        check.figures |= {"rows": comparison.rows, "tables": len(comparison.tables)}
        check.add(_differences(comparison, service))
        hidden = comparison.differing - sum(len(table.shown) for table in comparison.tables)
        check.add_more(Severity.VIOLATION, _KIND, hidden)
    return check


def _not_projected(schema: str, service: str, snapshot: Snapshot) -> Iterable[Finding]:
    """Rows that are right as far as they go show nothing of a projector that stands still."""
    projected = snapshot.projected.get(schema)
    if projected is None or projected.waiting is None:
        return
    if projected.error is None and projected.waiting < ON_ITS_WAY:
        return
    behind = f"it shows the store up to position {projected.position}, which ends at {snapshot.head}"
    if projected.error is None:
        yield pending("not-projected", behind, "audit again later", position=projected.position)
    else:
        remedy = (
            f"remove the cause, or deploy a read model that can apply the event: millrace lag shows {service}"
        )
        yield pending(
            "not-projected",
            f"{behind}; its projector stands still: {projected.error}",
            remedy,
            position=projected.position,
        )


_KIND = "row-differs"


def _differences(comparison: Comparison, service: str) -> Iterable[Finding]:
    model = comparison.read_model
    for table in comparison.tables:
        for difference in table.shown:
            key = ", ".join(f"{name}={value}" for name, value in difference.key.items())
            yield violation(
                _KIND,
                f"{table.table} ({key}): {_said(difference)}",
                f"rebuild it: millrace replay rebuild {service} {model} --verify",
                read_model=model,
                table=table.table,
                **{name: value for name, value in difference.key.items() if value is not None},
            )


def _said(difference: Difference) -> str:
    live, rebuilt = difference.live, difference.rebuilt
    if live is None:
        return "the row is missing; the events give one"
    if rebuilt is None:
        return "the row should not be there: no event gives it"
    return "; ".join(
        f"{name} is {_clipped(live[name])}, the events give {_clipped(rebuilt[name])}"
        for name in difference.columns
    )


def _clipped(value: str | None) -> str:
    if value is None:
        return "null"
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
