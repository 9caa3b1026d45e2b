"""Writes, finds and reads back what a run or an evaluation leaves in its directory."""
