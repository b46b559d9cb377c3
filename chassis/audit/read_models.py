"""Check: a read model has the rows that its events give. The comparison itself is chassis/replay/throwaway.py's."""

from collections.abc import Iterable

from chassis.audit.findings import Check, Finding, Severity, pending, violation
from chassis.audit.progress import Progress
from chassis.definition import Feed
from chassis.replay.errors import NotApplicable, ReplayError
from chassis.replay.progress import Progress as Replayed
from chassis.replay.throwaway import compare_with_rebuild
from chassis.replay.verify import Comparison, Difference
from chassis.settings import ServiceSettings

_LONGEST = 60  # characters of a value that are shown


async def check_read_model(feed: Feed, service: str, settings: ServiceSettings, progress: Progress) -> Check:
    """Compare the live copy of the feed's read model with its rebuild at the same place.

    It fixes a cut of its own (one snapshot holds the rows and the place that they belong to), so it needs none of
    the audit's. Rows of parked streams are left out: these are told of among the consumers.
    """
    model = feed.model
    check = Check(f"read model {model.schema}")

    def show(now: Replayed) -> None:
        progress(check.name, now.done, now.total)

    try:
        comparison = await compare_with_rebuild(
            feed, settings.database_url, settings.kafka_bootstrap_servers, on_progress=show
        )
    except NotApplicable as error:
        remedy = "mend the read model and raise its version, deploy: the new version is built by itself"
        check.add([violation("not-applicable", str(error), remedy, read_model=model.name)])
    except ReplayError as error:
        check.add([pending("not-compared", str(error), "audit again later", read_model=model.name)])
    else:
        check.figures |= {"rows": comparison.rows, "tables": len(comparison.tables)}
        check.add(_differences(comparison, service))
        hidden = comparison.differing - sum(len(table.shown) for table in comparison.tables)
        check.add_more(Severity.VIOLATION, _KIND, hidden)
    return check


_KIND = "row-differs"


def _differences(comparison: Comparison, service: str) -> Iterable[Finding]:
    model = comparison.read_model
    for table in comparison.tables:
        for difference in table.shown:
            key = ", ".join(f"{name}={value}" for name, value in difference.key.items())
            yield violation(
                _KIND,
                f"{table.table} ({key}): {_said(difference)}",
                f"build it anew: millrace replay rebuild {service} {model} --verify",
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
