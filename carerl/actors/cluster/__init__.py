"""Finds or starts a Ray cluster, places actors on it and submits jobs to it."""
