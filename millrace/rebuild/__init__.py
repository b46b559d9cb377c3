"""Replay: rebuild any state from the events, at any version, while the service runs. See docs/replay.md."""
