"""Reads rows of data: questions, options, gold answers, graded responses."""
