"""What the user service can be asked for. One file per read model."""
