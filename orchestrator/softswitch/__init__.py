"""softswitch: a v1model switch in Python, programmed like BMv2.

How it flows:

    BMv2 JSON --program--> Program --codegen--> Python source --> run(port, frame, ...)
    P4Runtime --server--> entities --> tables <---- probed by ----'

- `program`   typed view of p4c's JSON; refuses what is not implemented, by name
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
- `ports`     network interfaces and the packet loop
- `__main__`  the switch as a process
"""
