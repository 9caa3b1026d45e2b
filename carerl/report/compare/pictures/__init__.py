"""Draws the pictures of a comparison."""
