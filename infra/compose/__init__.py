"""compose.yaml: what it mounts, and the project that the tests start of it."""
