"""Draws the pictures of one run or evaluation."""
