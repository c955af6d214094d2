"""What the provider and its customer agree on, and how it is shown to hold."""
