"""What any runtime of servers must do, asked over the wire: its management API and its frames.

`python -m servernf.conformance --api unix:/w.sock --interface veth0` tests a worker whose interface is
the other end of `veth0`; with `--frames PATH` it listens at a Unix socket that the worker connects to
(`servernf.host.framepipe`). Nothing here knows a runtime: `vectors` says by hand, from
docs/functions, what NFs do with frames, `calls` what the API answers. An oracle of the caller's
gives further vectors (`vectors.judged`).
"""
