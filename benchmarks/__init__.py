"""Measurements: side by side in one run, interleaved, reported as ratios and medians."""
