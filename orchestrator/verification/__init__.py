"""What the provider and its customer agree on, what witnesses told, and what follows from it."""
