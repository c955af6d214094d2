"""The server side. It imports nothing of the orchestrator, which imports `wire`, `host` and `proto`.

`wire` is what both sides say: tags, addresses, errors. `host` is what processes of both sides ask of
the machine. `proto` are the APIs of workers and of the agent. `agent` starts, bounds and ends the
workers of a server. `python` is a runtime: NFs, and the worker that runs them, written from
docs/functions and apart from the reference semantics.
"""
