"""Run-time state of a loaded program: what entities change and packets use."""
