"""The weights that a run starts from: made, fetched, cached and checked."""
