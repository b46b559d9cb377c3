"""The container backend: the same platform as the local stack, started from images by testcontainers."""
