"""gRPC plumbing: the server as a worker, errors as statuses, channels with deadlines. Queries only."""
