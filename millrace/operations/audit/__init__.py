"""The audit: proof, from stores, topics and read models alone, that nothing was lost, invented or done twice.

See docs/audit.md. `audit.py` runs the checks of one service in order, each check is a module of its own.
"""
