"""What a service did because of events that were lost for good, and taking it back. See
docs/lost-events.md."""
