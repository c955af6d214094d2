"""What a failure, more traffic or other hardware would mean: scenarios, each compiled and placed."""
