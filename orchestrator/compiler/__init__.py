"""From a service graph to candidate cuts, and from a placement to table entries and chains."""
