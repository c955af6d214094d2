"""The fast engine: P4 programs as C, in a process of their own behind the P4Runtime server."""
