"""What processes that handle strangers' packets ask of the machine: sockets, privileges, authority."""
