"""Data sets that models are trained and measured on: one in each file, all of them in ``table``."""
