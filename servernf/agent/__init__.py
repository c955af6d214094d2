"""The agent of a server: it starts, bounds, watches and ends the workers on the server's cores.

    service --> fleet --> keeper (a thread a worker) --> launch: runtimes, interfaces, bounds

`service` is the API (servernf/proto/agent.proto) and checks a specification (`specs`) against the
machine (`machine`) and the agent's configuration (`config`). The `fleet` has a keeper for each worker
that was asked for, and remembers them in a file (`memory`), so that after a reboot what ran runs again.
"""
