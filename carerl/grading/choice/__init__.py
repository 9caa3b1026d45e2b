"""Decides which option of a multiple-choice question a response names."""
