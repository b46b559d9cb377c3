"""What the services agree on: events, topics and gRPC protocols. Nothing here decides anything."""
