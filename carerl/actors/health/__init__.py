"""Notices actors, nodes and heads that die, hang or are about to go, and says so in a few lines."""
