"""Restore: take back from the topic what a store lost (docs/restore.md, docs/adr/0001-restored-stores.md)."""
