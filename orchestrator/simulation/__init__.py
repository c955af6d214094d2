"""One network in memory with virtual time: links, clocks, hosts, observers, and the devices on it.

- `links`    one direction of a link: latency, capacity, loss, reordering
- `clocks`   what a device takes for the time
- `network`  `Simulation`: frames between nodes in the order of virtual time
- `devices`  softswitches and workers of this process as nodes, and how a deployment drives them
- `memory`   `MemoryNetwork`: the devices of a topology on a simulation
"""
