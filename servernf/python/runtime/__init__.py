"""The worker of a server core: data path, shim, chaining, and the VNF management API over it.

`Worker` is all of it without sockets; `python -m servernf.python` runs one on an interface.
"""
