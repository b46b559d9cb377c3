"""Numbered SQL of the notification service: what is neither event store nor read model."""
