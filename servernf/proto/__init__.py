"""The APIs of a server: `vnf.proto` of a worker, `agent.proto` of the agent that starts workers.

After a change of one, from the project's root: `python -m servernf.proto.generate` (needs
grpcio-tools; a test compares the result with what is checked in).
"""
