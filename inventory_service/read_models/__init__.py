"""What inventory can be asked for. One file per read model."""
