"""Run directories: what a run or an evaluation leaves behind, written, found and read back."""
