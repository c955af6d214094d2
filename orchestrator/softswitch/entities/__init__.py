"""P4Runtime entities: validate, translate, apply, read back.

A write has two halves. `decode` checks an update against P4Info and turns it
into a closure-free operation without touching the tables, so it runs outside
the switch's lock; the operation runs under it and costs a few dict operations.
Checks, their order and their codes follow p4lang/PI's device_mgr.cpp (what
BMv2 serves), with two additions of the P4Runtime specification: an empty byte
string is refused, and a full table answers RESOURCE_EXHAUSTED. Byte strings
longer than canonical are accepted when the value fits, as PI does; reads give
canonical ones.

- `store`     `EntityStore`: all entities of a loaded pipeline
- `base`      what every kind has: objects by id, `decode`, and the walk of a wildcard read
- `arrays`    kinds that are arrays of cells: `counters`, `meters`, `registers`
- `tables`    table entries; `table_entries` is one table, `special_entries` one with a
              profile, a direct meter or timeouts, both on top of `matches` and `actions`
- `direct_counters`, `direct_meters`  what belongs to table entries
- `action_profiles`, `replication`, `value_sets`, `digests`  one kind each
"""
