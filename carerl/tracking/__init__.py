"""What a person sees while a run goes on, and where its metrics go."""
