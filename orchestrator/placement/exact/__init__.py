"""The exact placement model (OR-Tools CP-SAT), one concept a module."""
