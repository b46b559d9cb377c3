"""Canaries: events of no domain that a service sends through its store and topic, to see them arrive
everywhere.

streams.py  which streams they are in: one for each partition of the topic
sender.py   the worker that appends them
passed.py   how a listener says that one came by
"""
