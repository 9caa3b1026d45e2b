"""Shows a run while it goes on, and sends its metrics to where they are kept."""
