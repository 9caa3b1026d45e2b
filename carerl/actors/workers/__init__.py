"""The actors themselves: one class a role."""
