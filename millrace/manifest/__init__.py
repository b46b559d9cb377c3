"""What a platform knows of its services without importing them: `service.toml` in each `*_service` folder."""

from millrace.manifest.model import Manifest, Ports, ReactionEntry, ReadModelEntry
from millrace.manifest.reading import RESERVED_PORTS, ManifestError, read_manifest, read_manifests

__all__ = [
    "RESERVED_PORTS",
    "Manifest",
    "ManifestError",
    "Ports",
    "ReactionEntry",
    "ReadModelEntry",
    "read_manifest",
    "read_manifests",
]
