"""What an audit says: findings, the checks that they come from, and the report of one service."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from millrace.runtime.shorten import LINE, readable, shortened

KEPT = 1_000
"""Findings of one kind that a check keeps word for word; of more it keeps the count, so that memory stays
bounded."""


class Severity(StrEnum):
    """VIOLATION: a promise is broken, the audit fails. PENDING: something has not come to its end yet, for
    the reason that is named; all is well. (What is neither is a figure of its check.)"""

    VIOLATION = "violation"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know.

    `kind` is stable, for programs; `what` names the thing in one line, in which long ids and keys are
    shortened; `remedy` says what to do; `where` is the same thing for programs, in full: stream, version,
    position, event_id, topic, partition, offset, consumer ...
    """

    severity: Severity
    kind: str
    what: str
    remedy: str = ""
    where: Mapping[str, str | int] = field(default_factory=dict)


def violation(kind: str, what: str, remedy: str, **where: str | int) -> Finding:
    """A broken promise."""
    return Finding(Severity.VIOLATION, kind, _line(what, where), remedy, where)


def pending(kind: str, what: str, remedy: str = "", **where: str | int) -> Finding:
    """Something that has not come to its end yet."""
    return Finding(Severity.PENDING, kind, _line(what, where), remedy, where)


def _line(what: str, where: Mapping[str, str | int]) -> str:
    return shortened(readable(what, [str(value) for value in where.values()]), LINE)


class Check:
    """One check of one service: what it looked at (`figures`), what it found."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, int | str] = {}
        self._counts: Counter[tuple[Severity, str]] = Counter()
        self._kept: dict[tuple[Severity, str], list[Finding]] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Note them; beyond KEPT of a kind only their number."""
        for finding in findings:
            key = (finding.severity, finding.kind)
            self._counts[key] += 1
            if self._counts[key] <= KEPT:
                self._kept.setdefault(key, []).append(finding)

    def add_more(self, severity: Severity, kind: str, count: int) -> None:
        """There were so many more of that kind, of which nothing but the number is known."""
        if count > 0:
            self._counts[severity, kind] += count

    def count(self, severity: Severity) -> int:
        """How many findings of that severity there were, kept or not."""
        return sum(count for (one, _), count in self._counts.items() if one is severity)

    def kinds(self) -> Iterator[tuple[Severity, str, int, list[Finding]]]:
        """Severity, kind, number, and the findings that were kept; violations first."""
        for (severity, kind), kept in sorted(self._kept.items(), key=lambda item: item[0][0], reverse=True):
            yield severity, kind, self._counts[severity, kind], kept

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "figures": self.figures,
            "violations": self.count(Severity.VIOLATION),
            "pending": self.count(Severity.PENDING),
            "findings": [
                {
                    "severity": str(severity),
                    "kind": kind,
                    "count": count,
                    "items": [
                        {"what": one.what, "remedy": one.remedy, "where": dict(one.where)} for one in kept
                    ],
                }
                for severity, kind, count, kept in self.kinds()
            ],
        }


@dataclass(frozen=True)
class Report:
    """The audit of one service. `snapshot` says up to where everything was looked at."""

    service: str
    snapshot: Mapping[str, Any]
    checks: list[Check]
    seconds: float

    @property
    def violations(self) -> int:
        """How many promises are broken."""
        return sum(check.count(Severity.VIOLATION) for check in self.checks)

    @property
    def pending(self) -> int:
        """How many things have not come to their end yet."""
        return sum(check.count(Severity.PENDING) for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For programs; `millrace audit` merges these."""
        return {
            "service": self.service,
            "clean": self.violations == 0,
            "violations": self.violations,
            "pending": self.pending,
            "seconds": round(self.seconds, 3),
            "snapshot": dict(self.snapshot),
            "cut": dict(self.snapshot),  # the older name, for one version
            "checks": [check.to_json() for check in self.checks],
        }
