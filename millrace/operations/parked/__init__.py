"""The `parked` commands of a service: look at parked streams, redrive them, discard a record. See
docs/consumers.md."""
