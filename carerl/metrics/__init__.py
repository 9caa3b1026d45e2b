"""Every metric that a run logs, with unit, meaning and the way it is shown."""
