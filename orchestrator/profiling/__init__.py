"""Measuring what runtimes and switches cost on this machine (`orchestrator profile`)."""
