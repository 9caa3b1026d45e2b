"""Says what a run would take before it is started: each actor's memory, and the seconds of every stage."""
