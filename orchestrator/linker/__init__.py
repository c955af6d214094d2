"""Numbers for what entries refer to, beside the version that runs: the last step before the bundle."""
