"""The parts of a round of preferences: responses are gathered, judged and paired, and the policy learns from pairs."""
