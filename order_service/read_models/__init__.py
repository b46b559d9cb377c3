"""What the order service can be asked for. One file per read model."""
