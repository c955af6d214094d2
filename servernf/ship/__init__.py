"""Carries records from the rings of workers to the CLE."""
