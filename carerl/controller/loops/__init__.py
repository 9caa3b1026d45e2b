"""The loops: what a run does step by step."""
