"""NFs of this runtime: what each does, in C, and how its configuration is written for it, in Python."""
