"""Runs a grid of recipes on warm workers."""
