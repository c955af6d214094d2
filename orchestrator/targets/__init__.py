"""What each kind of device offers, what things cost there, and how it is programmed."""
