"""Networks that run already: looked at device by device, and what passes between them; then taken in.

`attach` looks first and changes nothing while anything is amiss; what it writes in the end is an
inventory, by which all else knows the network. `detach` forgets it.
"""
