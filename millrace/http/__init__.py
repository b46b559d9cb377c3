"""HTTP plumbing: the app and its server, problem+json, who asks, idempotency, preconditions, waiting,
paging."""
