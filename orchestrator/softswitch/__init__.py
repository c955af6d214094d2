"""softswitch: a P4Runtime server over an engine that executes packets, in Python or in C on DPDK.

How it flows:

    BMv2 JSON --ir--> Program --codegen--> Python source --pipeline--> run(port, frame, ...)
    P4Runtime --server--> Engine ..... --entities--> state <------ probed by -----'

What any engine has in common:

- `server`, `service`, `arbitration`, `secrecy`  P4Runtime: who may, who is primary, what is told
- `engine`    the protocol between the server and what executes packets
- `entity_errors`  what a refusal is, and who raises it
- `ir`        a program as frozen data, read from p4c's JSON; believes nothing in it
- `architectures`  what an architecture adds to P4: v1model as a value

The Python engine:

- `codegen`   one generated function a program: parser to deparser, fields are locals
- `hashes`    BMv2's checksum and hash algorithms
- `state`     run-time state: tables that do not grow slow with entries, meters, profiles, digests
- `entities`  P4Runtime entities: checked against P4Info, applied to the state, read back
- `pipeline`  state and compiled code of one program
- `trace`     a packet's steps as data
- `packetmeta` PacketIn/PacketOut headers
- `switch`    `SoftSwitch`, complete in memory: load, process, write, read, trace
- `verifier`  VERIFY in a process of its own, with limits
- `ports`     network interfaces and the packet loop
- `python_engine`  a `SoftSwitch` behind the protocol
- `__main__`  the switch as a process
"""
