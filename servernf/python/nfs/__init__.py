"""The NFs, one a file; each registers itself (`servernf.python.network_function`)."""
