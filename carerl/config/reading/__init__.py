"""Reads what is typed: recipes, overrides, references and paths, and puts typed values into the dataclasses."""
