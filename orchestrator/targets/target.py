"""What a target is: all that the orchestrator must know of a kind of device, in a file of its own.

A target registers itself (`@target("name")`); importing the package finds every file in it. Nothing
outside this package knows one by name: who needs something else of a target asks it for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from orchestrator.errors import unknown
from orchestrator.model.elements import ElementProgram
from orchestrator.profiles import SwitchProfile, switch_profile
from orchestrator.targets.chip import Chip
from orchestrator.targets.costs import FilterCosts
from orchestrator.targets.engine import TargetEngine
from orchestrator.targets.footprints import entries_needed

AUTO = "auto"
"""No target but a choice: the first installed one of those that take part (`Target.choice`)."""


@dataclass(frozen=True, slots=True)
class ReservedPorts:
    """Port numbers with a meaning of their own, as the architecture's P4 has them (p4src/arch)."""

    cpu: int


@dataclass(frozen=True, slots=True)
class Cloning:
    """The clone session for what leaves beside a packet, and its copies' numbers (p4src/arch)."""

    session: int
    copies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a compiler made of a program: P4Info as text and what a device loads."""

    p4info: bytes
    device_config: bytes


class Target:
    """A kind of device. Defaults are those of a target that nothing can be loaded into."""

    name: ClassVar[str]
    architecture: ClassVar[str]
    """For which its P4 is compiled: `p4src/pipelines/<pipeline>_<architecture>.p4`."""
    assumed: ClassVar[str] = ""
    """Of a target without builds: the architecture whose shipped builds stand for its own in plans."""
    suffix: ClassVar[str] = ""
    """Of the file that a device loads, as builds and bundles name it; "": no build is shipped."""
    ports: ClassVar[ReservedPorts]
    cloning: ClassVar[Cloning]
    chip: ClassVar[Chip | None] = None
    """Of a target whose tables stand in stages: what those hold (orchestrator/fitting)."""
    costs: ClassVar[FilterCosts]
    """Of a filter's forms. They say, too, whether its ternary tables know ranges."""
    engine: ClassVar[TargetEngine | None] = None
    """What runs it on this machine; None: it cannot be emulated."""
    choice: ClassVar[int | None] = None
    """Its place in `auto`, the lowest first; None: it takes no part."""

    @property
    def ranges(self) -> bool:
        """Whether ternary tables know ranges; else lowering writes a range as prefixes."""
        return self.costs.ranges

    @property
    def explained_by(self) -> str:
        """The architecture of the build that the softswitch reads to say what a device does."""
        return self.assumed or self.architecture

    def footprint(
        self, program: ElementProgram, versions: frozenset[int]
    ) -> Counter[tuple[str, str]]:
        """Entries by (block, table) for packets of some kinds: an upper bound that lowering keeps."""
        return entries_needed(program, versions, self.ranges)

    def compiler(self) -> str:
        """The program that compiles pipelines for it; "": there is none."""
        return ""

    def compile(self, files: Mapping[str, str]) -> Artefact:
        """Compile p4src with these files changed or added; the last of them is the main one."""
        raise NotImplementedError(f"{self.name} has no compiler")


TargetT = TypeVar("TargetT", bound=Target)

_registry: dict[str, Target] = {}


def target(name: str) -> Callable[[type[TargetT]], type[TargetT]]:
    """Register a target under its name; a duplicate raises."""

    def register(cls: type[TargetT]) -> type[TargetT]:
        if name in _registry or name == AUTO:
            raise ValueError(f"target '{name}' is defined twice")
        cls.name = name
        _registry[name] = cls()
        return cls

    return register


def known_targets() -> tuple[str, ...]:
    """Names of all targets."""
    return tuple(sorted(_registry))


def choices() -> tuple[str, ...]:
    """What a topology may say of a switch."""
    return (AUTO, *known_targets())


def lookup(name: str) -> Target:
    """A target by name, `auto` as the one that it prefers; KeyError with the nearest name."""
    if name == AUTO:
        return automatic()[0]
    if name not in _registry:
        raise KeyError(unknown("target", name, known_targets()))
    return _registry[name]


def automatic() -> tuple[Target, ...]:
    """The targets that `auto` may become, the first that is there."""
    ranked = [(t.choice, t.name, t) for t in _registry.values() if t.choice is not None]
    return tuple(target for _, _, target in sorted(ranked, key=lambda r: r[:2]))


def profile_of(name: str) -> SwitchProfile | None:
    """What was measured of a target; of `auto`, of the first one that is installed. None: nothing."""
    if name != AUTO:
        return switch_profile(name)
    for chosen in automatic():
        if chosen.engine is not None and not chosen.engine.missing():
            return switch_profile(chosen.name)
    return None


def filter_costs(names: Iterable[str]) -> FilterCosts | None:
    """The costs by which a network of these targets is lowered; None for none.

    A unit is lowered before it is known on which switch: in a mixed network the target decides that
    suffers most from a long ternary table.
    """
    of_targets = [lookup(name).costs for name in sorted(set(names))]
    return max(of_targets, key=lambda costs: costs.plain(10_000), default=None)


def compiled_for(architecture: str) -> Target:
    """A target whose builds are of an architecture."""
    return next(t for t in _registry.values() if t.architecture == architecture and t.suffix)
