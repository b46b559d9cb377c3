"""What the tests of a service need. See docs/how-to/test-a-service.md.

    given_when_then   decisions as sentences of the domain: no store, no clock
    app               `in_test`: a whole service inside a test
    databases         throwaway databases with the roles of a service
    certificates      one CA per test session, and what it issues
    topics            topics of a test's own, and a writer that fills one as its service's relay would
    audits            a service's audit, which must be clean
    workers           workers that run while a test does
    waiting           `eventually`: instead of a sleep
    servers, plugin   addresses of Postgres and Kafka; pytest fixtures made of them

The names below are loaded when they are first used, so that a domain's tests need no Kafka. No service
imports this.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.testing.app import ServiceInTest as ServiceInTest
    from millrace.testing.app import in_test as in_test
    from millrace.testing.audits import clean_audit as clean_audit
    from millrace.testing.databases import Databases as Databases
    from millrace.testing.databases import DatabaseUrls as DatabaseUrls
    from millrace.testing.given_when_then import Outcome as Outcome
    from millrace.testing.given_when_then import given as given
    from millrace.testing.topics import TopicWriter as TopicWriter
    from millrace.testing.topics import fresh_topics as fresh_topics
    from millrace.testing.waiting import eventually as eventually
    from millrace.testing.workers import running as running

_MODULES = {
    "app": ["ServiceInTest", "in_test"],
    "audits": ["clean_audit"],
    "databases": ["DatabaseUrls", "Databases"],
    "given_when_then": ["Outcome", "given"],
    "workers": ["running"],
    "topics": ["TopicWriter", "fresh_topics"],
    "waiting": ["eventually"],
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
