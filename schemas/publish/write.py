"""Writing what is to be published."""

from collections.abc import Sequence
from pathlib import Path

from millrace import EventRegistry
from schemas.publish.check import examine
from schemas.publish.document import PUBLISHED, document, path_of
from schemas.registries import REGISTRIES


def publish(registries: Sequence[EventRegistry] = REGISTRIES, published: Path = PUBLISHED) -> list[Path]:
    """Publish new versions, and again those that changed compatibly; returns the files that were written.

    Raises ValueError, and writes nothing, when something has to be done by hand first.
    """
    findings = examine(registries, published)
    if by_hand := [finding for finding in findings if not finding.mendable]:
        raise ValueError("\n".join(map(str, by_hand)))
    stale = {finding.event_type for finding in findings}
    written = []
    for cls in (cls for registry in registries for cls in registry.classes if cls.event_type in stale):
        path = path_of(cls.event_type, cls.schema_version, published)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document(cls))
        written.append(path)
    return written
