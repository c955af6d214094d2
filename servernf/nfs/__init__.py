"""The NFs, one a file; each registers itself (`servernf.network_function`)."""
