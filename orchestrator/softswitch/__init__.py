"""softswitch: a v1model switch in Python, programmed like BMv2.

How it flows:

    BMv2 JSON --bmv2--> Program --codegen--> Python source --> run(port, frame, ...)
    P4Runtime --server--> entities --> tables <---- probed by ----'

- `bmv2`      reads p4c's JSON, believes nothing in it, and refuses what is not implemented, by name
- `program`   what it reads: the program as frozen dataclasses
- `codegen`   one generated function a program: parser to deparser, fields are locals
- `tables`    exact, LPM and ternary lookup that does not grow with entries
- `hashes`    BMv2's checksum and hash algorithms
- `entities`  P4Runtime entities: checked against P4Info, applied, read back
- `profiles`, `meters`, `valuesets`, `digests`  what packets use of such an entity
- `entity_errors`  what a refusal is, and who raises it
- `trace`     a packet's steps as data
- `packetmeta` PacketIn/PacketOut headers
- `switch`    `SoftSwitch`, complete in memory: load, process, write, read, trace
- `server`    P4Runtime over gRPC
- `verifier`  VERIFY in a process of its own, with limits
- `ports`     network interfaces and the packet loop
- `__main__`  the switch as a process
"""
