"""What the network does: tables, counters, trajectory samples."""
