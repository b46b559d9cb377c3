"""What operators run: replay, audit, parked and lost streams, restores."""
