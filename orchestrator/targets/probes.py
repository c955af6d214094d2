"""Blocks by themselves on a chip, of which its compiler is asked what their tables take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeProgram:
    """A block with its constructor's arguments (entries by table), and what it is applied to."""

    block: str
    sizes: tuple[int, ...] = ()
    chip: str = "tofino2"
    applied_to: str = "hdr, meta"

    def text(self) -> str:
        """The program, of p4src/pipelines/probe_tna.p4."""
        declared = f"{self.block}_block({', '.join(map(str, self.sizes))}) {self.block};"
        return (
            f'#define BLOCK_FILE "../blocks/{self.block}.p4"\n'
            f"#define BLOCK {declared}\n"
            f"#define APPLY {self.block}.apply({self.applied_to});\n"
            '#include "probe_tna.p4"\n'
        )


PROBES = {
    "acl_512": ProbeProgram("acl", (512, 256, 256)),
    "acl_2048": ProbeProgram("acl", (2048, 512, 512)),
    "acl_4096": ProbeProgram("acl", (4096, 1024, 1024)),
    "acl_1024_tofino": ProbeProgram("acl", (1024, 512, 256), "tofino"),
    "classify": ProbeProgram("classify"),
    "deliver": ProbeProgram("deliver"),
    "deliver_tofino": ProbeProgram("deliver", chip="tofino"),
    "dispatch": ProbeProgram("dispatch", applied_to="meta"),
    "fabric": ProbeProgram("fabric", applied_to="meta"),
    "mark": ProbeProgram("mark"),
    "mirror": ProbeProgram("mirror", applied_to="meta"),
    "policer": ProbeProgram("policer"),
    "rewrite": ProbeProgram("rewrite"),
}
