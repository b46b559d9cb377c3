"""The board: how many seconds each read model is behind the truth, and why: `python -m board`."""
