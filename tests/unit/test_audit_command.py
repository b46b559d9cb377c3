"""`millrace audit`: the services' reports in one, and an exit code that never calls an unproven platform
clean."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import audit_cli
from infra.cli import app
from infra.local.errors import StackError
from infra.local.process import ProgramCommand
from infra.topology import SERVICES


def report(service: str, violations: int = 0) -> str:
    """A program that ends as the audit of a service does."""
    found = {
        "severity": "violation",
        "kind": "broken",
        "count": violations,
        "items": [{"what": f"{service} broke", "remedy": "mend it", "where": {}}],
    }
    said = {
        "service": f"{service}-service",
        "violations": violations,
        "pending": 0,
        "seconds": 0.1,
        "checks": [
            {
                "name": "store",
                "figures": {"events": 7},
                "violations": violations,
                "pending": 0,
                "findings": [found] if violations else [],
            }
        ],
    }
    return f"import sys; print({json.dumps(said)!r}); sys.exit({1 if violations else 0})"


def unreachable(service: str) -> str:
    return f"import sys; print('{service}-service: no database answers', file=sys.stderr); sys.exit(2)"


class FakeStack:
    """Services whose audits are these programs."""

    programs: dict[str, str]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def service(self, name: str) -> Any:
        if name not in self.programs:
            raise StackError(f"no service '{name}'; there are: {', '.join(self.programs)}")
        return self._Service(self.programs[name])

    class _Service:
        def __init__(self, program: str) -> None:
            self._program = program

        def tool_command(self, *_: str) -> ProgramCommand:
            return ProgramCommand((sys.executable, "-c", self._program), env={}, cwd=Path.cwd())


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The audit of each service; all clean at first."""
    FakeStack.programs = {service.name: report(service.name) for service in SERVICES}
    monkeypatch.setattr(audit_cli, "Stack", FakeStack)
    return FakeStack.programs


def audit(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(app, ["audit", *arguments], catch_exceptions=False)
    return ran.exit_code, ran.stdout, ran.stderr


def test_clean_services_are_a_clean_platform(programs: dict[str, str]) -> None:
    code, out, _ = audit()

    assert code == 0
    clean = [line.split(":")[0] for line in out.splitlines() if ": clean" in line]
    assert clean == [service.service for service in SERVICES]


def test_one_violation_fails_the_audit_and_is_named(programs: dict[str, str]) -> None:
    programs["user"] = report("user", violations=1)

    code, out, _ = audit()

    assert code == 1
    assert "user broke" in out
    assert "mend it" in out


def test_a_service_that_cannot_be_audited_is_not_clean(programs: dict[str, str]) -> None:
    programs["order"] = unreachable("order")

    code, out, err = audit("--service", "order", "--service", "user")

    assert code == 2
    assert "not audited: order: no database answers" in err
    assert "user-service: clean" in out


def test_a_violation_stands_whatever_could_not_be_looked_at(programs: dict[str, str]) -> None:
    programs |= {"order": unreachable("order"), "user": report("user", violations=2)}

    assert audit()[0] == 1


def test_an_audit_that_crashes_is_not_taken_for_a_violation(programs: dict[str, str]) -> None:
    programs["order"] = "raise KeyError('oops')"

    code, _, err = audit("--service", "order")

    assert code == 2
    assert "not audited: order: its audit ended with code 1 and no report: KeyError: 'oops'" in err


def test_for_programs_everything_is_in_one_document(programs: dict[str, str]) -> None:
    programs["order"] = unreachable("order")

    _, out, _ = audit("--json", "--service", "order", "--service", "inventory")

    document = json.loads(out)
    assert [one["service"] for one in document["reports"]] == ["inventory-service"]
    assert document["not_audited"] == [{"service": "order", "error": "no database answers"}]


def test_an_unknown_service_is_named_with_those_that_exist(programs: dict[str, str]) -> None:
    with pytest.raises(StackError, match="no service 'nope'; there are: order, inventory"):
        audit("--service", "nope")
