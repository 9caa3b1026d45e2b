"""Ends a run well: stops that are asked for, full disks, and what is said of a run that was killed."""
