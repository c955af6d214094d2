"""The Python runtime: NFs, one a file, and the worker that runs them (`python -m servernf.python`)."""
