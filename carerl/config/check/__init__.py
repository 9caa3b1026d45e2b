"""Refuses settings that cannot work, before anything starts."""
