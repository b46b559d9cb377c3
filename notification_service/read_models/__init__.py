"""What the notification service can be asked for. One file per read model."""
