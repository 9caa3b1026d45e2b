"""Joins many runs: accuracy against calibration, with intervals, on one page."""
