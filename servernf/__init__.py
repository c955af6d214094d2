"""The server side: NFs (`nfs`), the worker that runs them (`runtime`), and its API (`proto`).

Written from docs/architecture.md and apart from `orchestrator.nfs`, the reference: of `orchestrator`
only `wire` and `errors` are imported here.
"""
