"""The driver's side of the actors: one handle a role."""
