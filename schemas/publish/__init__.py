"""Publishing the JSON Schema of every event version, and checking that what is published still holds.

schemas/published/<Type>/<version>.json is what others may rely on: generated from the event classes, frozen
from then on, also when the class has moved on to a newer version. See docs/event-evolution.md.
"""

from schemas.publish.check import Finding, examine
from schemas.publish.document import PUBLISHED
from schemas.publish.write import publish

__all__ = ["PUBLISHED", "Finding", "examine", "publish"]
