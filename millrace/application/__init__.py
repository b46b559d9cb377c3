"""From commands and reactions to appended events."""
