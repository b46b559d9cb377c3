"""Connections to the service's own Postgres, its faults, leadership, wake-ups."""
