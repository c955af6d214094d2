"""Which device executes what: the fabric's paths, the constraint model, the plan."""
