"""What a restore prints."""

from collections.abc import Iterator, Sequence
from typing import Any

from millrace.kafka.record import fields_lacking
from millrace.operations.definition import ServiceDefinition
from millrace.operations.restore.forks import Decision, ForkOutcome
from millrace.operations.restore.restore import Survey
from millrace.relay.lost_topic import service_of
from millrace.runtime.printable import line

_SHOWN = 20  # decisions of a kind; all of them are in --json and in forked_events


def survey_text(
    definition: ServiceDefinition, survey: Survey, *, dry_run: bool, rebuilt: Sequence[str]
) -> str:
    """What was found and done, and what to do next."""
    return "\n".join(map(line, _lines(definition, survey, dry_run, rebuilt)))


def _lines(
    definition: ServiceDefinition, survey: Survey, dry_run: bool, rebuilt: Sequence[str]
) -> Iterator[str]:
    topic, service = definition.topic.name, service_of(definition.source)
    tail = survey.tail
    if survey.renewals:
        verb = "would be taken on" if dry_run else "taken on"
        yield f"{definition.name}: {len(survey.renewals)} renewal(s) of the store's epoch {verb} from {topic}"
    if tail is None and not survey.renewals:
        yield f"{definition.name}: nothing is missing: {topic} holds no event that this store lacks"
        if survey.topic_problem:
            yield f"But {survey.topic_problem}. If the store is whole: millrace replay republish {service}."
            yield (
                f"If the store came back from a backup, and lacks events that others have seen:"
                f" millrace restore {service} --tail-lost"
            )
    if tail is None:
        return
    would = "would be " if dry_run else ""
    yield (
        f"{definition.name}: {_counted(tail.events, 'event')} of {_counted(tail.streams, 'stream')}"
        f" {would}put back from"
        f" {topic}"
        f" (positions {tail.first:,} to {tail.last:,})"
    )
    if tail.format_1:
        lacking = ", ".join(fields_lacking(1))
        yield f"  {tail.format_1:,} of them come from records of format 1, which lack: {lacking}"
    if survey.decisions:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in survey.outcomes.most_common())
        appended = _counted(len(survey.decisions), "event")
        yield f"  {appended} appended after the backup came back: {counts}"
    for outcome in (ForkOutcome.APPENDED, ForkOutcome.REFUSED):
        yield from _some(survey.decisions, outcome)
    if dry_run:
        yield f"Nothing was changed. To do it: millrace restore {service}"
        yield (
            "If no backup of this store was restored and no replica promoted, somebody else wrote these"
            " records: do not"
            f" restore them, remove them with `millrace replay republish {service} --recreate --drop-newer`"
        )
        return
    yield "Commands are accepted again."
    if rebuilt:
        yield f"Rebuilt, because they had applied events that moved: {', '.join(rebuilt)}"
    if survey.outcomes[ForkOutcome.REFUSED]:
        yield (
            "The refused events are kept in the table forked_events: decide about each, and append what"
            " corrects it."
        )
    if survey.published:
        yield (
            f"{survey.published:,} events that moved are in {topic} at their old places:"
            f" millrace replay republish {service} --recreate"
        )
    if survey.topic_problem:
        yield f"But {survey.topic_problem}: millrace replay republish {service}"
    yield f"Next: millrace audit --service {service}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _some(decisions: Sequence[Decision], wanted: ForkOutcome) -> Iterator[str]:
    some = [one for one in decisions if one.outcome is wanted]
    for one in some[:_SHOWN]:
        event = one.event
        why = f": {one.detail}" if one.detail else f" as version {one.version}"
        yield f"    {wanted}: {event.event_type} (version {event.version} of {event.stream_id}){why}"
    if len(some) > _SHOWN:
        yield f"    … and {len(some) - _SHOWN:,} more {wanted}: --json has them"


def loss_text(definition: ServiceDefinition, ended_at: int) -> str:
    """What giving up a tail came to, and what to do next."""
    service = service_of(definition.source)
    return "\n".join(
        (
            f"{definition.name}: the store goes on behind position {ended_at:,} with a new epoch.",
            "Commands are accepted again.",
            f"Next: millrace replay republish {service}",
            "Then: millrace audit, which lists what other services did because of lost events"
            " (millrace lost list SERVICE)",
        )
    )


def survey_json(survey: Survey) -> dict[str, Any]:
    """For programs."""
    tail = survey.tail
    return {
        "missing": tail.events if tail else 0,
        "first": tail.first if tail else None,
        "last": tail.last if tail else None,
        "streams": tail.streams if tail else 0,
        "format_1": tail.format_1 if tail else 0,
        "head": survey.head,
        "topic_problem": survey.topic_problem,
        "published_forks": survey.published,
        "renewals": len(survey.renewals),
        "forks": [
            {
                "outcome": str(one.outcome),
                "stream": one.event.stream_id,
                "version": one.event.version,
                "new_version": one.version,
                "type": one.event.event_type,
                "event_id": str(one.event.event_id),
                "detail": one.detail,
            }
            for one in survey.decisions
        ],
    }
