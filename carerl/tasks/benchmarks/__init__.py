"""Data sets that models are trained and measured on: one a file, all in ``table``."""
