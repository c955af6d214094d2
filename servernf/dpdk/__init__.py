"""The DPDK runtime: the service in Python (`worker`), packets in a C process of its own (`c/`, `nfs/`).

It has the calls, chains and NFs' semantics of `servernf.python`, whose control side it is built on.
Adding an NF is a file of C in `nfs/` and one of Python beside it, which writes its configuration for it.
"""
