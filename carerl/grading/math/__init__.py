"""Decides whether two mathematical answers are the same."""
