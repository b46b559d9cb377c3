"""Helpers that tests of every kind use."""

from millrace.testing.waiting import eventually as eventually
