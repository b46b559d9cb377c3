"""Every event of the platform, a module a service. Frozen once published: a change is a new version."""
