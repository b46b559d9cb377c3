"""A process of a service: settings, runner, probes."""
