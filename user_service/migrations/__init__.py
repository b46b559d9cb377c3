"""Numbered SQL of the user service: what is neither event store nor read model."""
