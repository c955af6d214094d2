"""What is deployed on a network, and the change that is under way: a write-ahead journal in a store.

Before a device is touched, the intent is there: which graph, and the bundle that it shall have (what it
has is there already). The steps need not be: they are a pure function of the two (`planning.plan`). Of
each stage it is noted that it begins and that it has ended. Whoever finds an intent (nobody leads any
more who could finish it) makes the steps again and finishes or undoes them: see `recovery`.

Bundles and sampling keys are kept, since undeploying needs them, and the graphs themselves, to be placed
anew when devices die: see the stores for who can read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from orchestrator.bundle.codec import dump, load, serialised
from orchestrator.bundle.index import Serialised, index_of, read_index
from orchestrator.deployment.store import LEAD_WAIT_S, Leadership, SqliteStore, Store
from orchestrator.durable import Durable
from orchestrator.errors import InputError, StoreError
from orchestrator.graph.kept import restored
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.ids import GRAPH_IDS
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.network.folders import hidden_dir

_GRAPHS = "graphs/"
_BUNDLE, _SOURCE = "/bundle", "/source"
"""Members of a graph, beside what is noted of it."""
_TRANSACTION = "transaction/"
_INTENT = f"{_TRANSACTION}intent"
_PROGRESS = f"{_TRANSACTION}progress"
_NEW, _NEW_SOURCE = f"{_TRANSACTION}new", f"{_TRANSACTION}source"
_REPLACED = f"{_TRANSACTION}replaced/"
_OWED = "owed/"
_CORDONED = "cordoned"
_PARTS = "parts of a bundle"


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployed graph.

    `source` is the graph that the bundle was compiled from (`graph.kept`), empty where that is unknown.
    """

    bundle: Bundle
    manifest: SamplingSecret | None
    deployed_at: str
    source: bytes = b""

    def graph(self) -> ServiceGraph | None:
        """What can be compiled again; None: it was deployed as a bundle."""
        return restored(self.source, f"journal: {self.bundle.graph}") if self.source else None


@dataclass(frozen=True, slots=True)
class Intent:
    """A change under way: `graph` shall be as `new` says, None: not be there at all.

    `interrupting` is as `planning.plan` was told, `away` as the executor was. `reached` is the stage
    that was begun last, -1 before the first; `undoing` says that this stage, and then those before it,
    are being undone.
    """

    graph: str
    new: Deployed | None
    begun_at: str
    controller: str
    interrupting: bool
    reached: int
    undoing: bool
    away: Away = field(default_factory=Away)


@dataclass(frozen=True, slots=True)
class Owed:
    """What a graph had on devices that did not answer when it was taken off them: it may still be there.

    Its id is given to no other graph until all of them have been cleaned.
    """

    graph: str
    graph_id: int
    devices: tuple[str, ...]
    cores: tuple[Core, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """Devices and cores, in words."""
        return (*self.devices, *(str(core) for core in self.cores))

    def joined(self, other: Owed) -> Owed:
        """Both of one graph."""
        devices = dict.fromkeys((*self.devices, *other.devices))
        cores = dict.fromkeys((*self.cores, *other.cores))
        return replace(self, graph=other.graph, devices=tuple(devices), cores=tuple(cores))

    def without(self, devices: Collection[str], cores: Collection[Core]) -> Owed:
        """What is still owed when these have been cleaned."""
        return replace(
            self,
            devices=tuple(d for d in self.devices if d not in devices),
            cores=tuple(c for c in self.cores if c not in cores),
        )


def state_directory() -> Path:
    """`$XDG_STATE_HOME/orchestrator` or `~/.local/state/orchestrator`, the user's only."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return hidden_dir(Path(base) / "orchestrator")


def memo() -> Durable:
    """What this user's processes remember, beside the journals."""
    return Durable(state_directory() / "memo")


def sqlite_store(network: str) -> SqliteStore:
    """The store of a network in the user's state directory."""
    return SqliteStore(hidden_dir(state_directory() / "journal") / f"{network}.sqlite")


class Journal:
    """The journal of one network: anybody reads it, its leader changes it."""

    def __init__(self, network: str, store: Store | None = None) -> None:
        self.network = network
        self.store = store or sqlite_store(network)
        self.memo = memo()
        self._read: dict[str, tuple[bytes, Bundle]] = {}
        """The bundle of each graph that was read last, with the digest of what it was read from."""

    def deployed(self) -> dict[str, Deployed]:
        """All deployed graphs by name, in order of their ids."""
        return self._deployed(self.store.read(_GRAPHS))

    def intent(self) -> Intent | None:
        """The change under way, or that was under way when its controller ended."""
        stored = self.store.read(_TRANSACTION)
        if _INTENT not in stored:
            return None
        raw = _object(stored[_INTENT])
        new = None
        if _NEW in stored:
            source = stored.get(_NEW_SOURCE, b"")
            new = self._graph(raw["graph"], raw["new"], stored[_NEW], source)
        progress = _object(stored.get(_PROGRESS, b'{"stage": -1, "undoing": false}'))
        return Intent(
            raw["graph"],
            new,
            raw["begun_at"],
            raw["controller"],
            raw["interrupting"],
            progress["stage"],
            progress["undoing"],
            _away(raw.get("away")).joined(_away(raw.get("died"))),
        )

    def owed(self) -> tuple[Owed, ...]:
        """What removed graphs may still have on devices that did not answer."""
        documents = (_object(value) for _, value in sorted(self.store.read(_OWED).items()))
        return tuple(
            Owed(
                raw["graph"],
                raw["graph_id"],
                tuple(_devices(raw)),
                tuple(Core(server, index) for server, index in raw["cores"]),
            )
            for raw in documents
        )

    def cordoned(self) -> tuple[str, ...]:
        """Names of devices and cores that placement keeps off."""
        stored = self.store.read(_CORDONED).get(_CORDONED)
        return () if stored is None else tuple(_object(stored)["names"])

    def known_ids(self, deployed: Mapping[str, Deployed] | None = None) -> set[int]:
        """Ids of graphs that may be on devices: deployed (if those are known), owed, being changed."""
        graphs = self.deployed() if deployed is None else deployed
        ids = {graph.bundle.graph_id for graph in graphs.values()}
        ids |= {owed.graph_id for owed in self.owed()}
        intent = self.intent()
        if intent is not None and intent.new is not None:
            ids.add(intent.new.bundle.graph_id)
        return ids

    def free_graph_id(self, deployed: Mapping[str, Deployed] | None = None) -> int:
        """The smallest id of no graph that may be on devices, as `known_ids` says."""
        taken = self.known_ids(deployed)
        free = next((i for i in GRAPH_IDS if i not in taken), None)
        if free is None:
            raise InputError(f"{len(GRAPH_IDS):,} graphs are deployed: undeploy one for another")
        return free

    @contextmanager
    def lead(self, wait_s: float = LEAD_WAIT_S) -> Generator[Lead]:
        """The right to change the network, while the context is open."""
        with self.store.lead(controller_name(), wait_s) as leadership:
            yield Lead(self, leadership)

    def leader(self) -> str:
        """Which controller changes the network now; "" for none."""
        return self.store.leader()

    def clear(self) -> None:
        """The network is gone, and all that was on it."""
        self.store.clear()

    def _deployed(self, stored: dict[str, bytes]) -> dict[str, Deployed]:
        graphs = {
            name: self._graph(
                name,
                _object(value),
                stored.get(f"{key}{_BUNDLE}", b""),
                stored.get(f"{key}{_SOURCE}", b""),
            )
            for key, value in stored.items()
            if not key.endswith((_BUNDLE, _SOURCE)) and (name := key.removeprefix(_GRAPHS))
        }
        return dict(sorted(graphs.items(), key=lambda item: item[1].bundle.graph_id))

    def _graph(self, name: str, raw: dict[str, Any], bundle: bytes, source: bytes) -> Deployed:
        loaded = self._bundle(name, bundle)
        secret = raw["manifest"]
        manifest = None if secret is None else SamplingSecret(loaded.graph_id, *secret)
        return Deployed(loaded, manifest, raw["deployed_at"], source)

    def _bundle(self, name: str, data: bytes) -> Bundle:
        """Read once as long as it stays: a command asks several times what is deployed."""
        digest, (last, loaded) = sha256(data).digest(), self._read.get(name, (b"", None))
        if loaded is None or last != digest:
            loaded = self._indexed(name, data, digest)
            if loaded is None:
                try:
                    loaded = load(data, self._source(name))
                except InputError as error:
                    raise StoreError(str(error)) from error
            self._read[name] = digest, loaded
        return loaded

    def _indexed(self, name: str, data: bytes, digest: bytes) -> Bundle | None:
        """The bundle with entries that are made when asked for; None where nobody knows its parts."""
        parts = self.memo.get(_PARTS, digest)
        if parts is not None:
            with suppress(InputError, ValueError, LookupError, TypeError):
                return load(data, self._source(name), read_index(parts))
        return None

    def _source(self, name: str) -> str:
        return f"journal of {self.network}: {name}"

    def remember(self, data: bytes, bundle: Bundle, entries: Mapping[str, Serialised]) -> None:
        """A bundle's `entries` are in `data` as they were serialised: so it is read faster."""
        self.memo.put(index_of(bundle, entries), _PARTS, sha256(data).digest())


class Lead:
    """A controller's right to change a network, and its pen (a `Recorder` of transactions)."""

    def __init__(self, journal: Journal, leadership: Leadership) -> None:
        self.journal = journal
        self.leadership = leadership

    def intend(
        self,
        graph: str,
        new: Deployed | None,
        *,
        interrupting: bool = False,
        entries: Mapping[str, Serialised] | None = None,
        away: Away | None = None,
    ) -> None:
        """Write ahead what is to be changed; StoreError while another change is unfinished.

        `entries` are those of the new bundle in binary, if they are known.
        """
        if (unfinished := self.journal.intent()) is not None:
            raise StoreError(
                f"{self.journal.network}: a change of {unfinished.graph} that {unfinished.controller} "
                f"began at {unfinished.begun_at} is not finished: `orchestrator recover`"
            )
        intent: dict[str, Any] = {
            "graph": graph,
            "begun_at": now(),
            "controller": controller_name(),
            "interrupting": interrupting,
            "new": None if new is None else _described(new),
        }
        if away:
            intent["away"] = _away_value(away)
        put = {_INTENT: _json(intent)}
        if new is not None:
            entries = serialised(new.bundle) if entries is None else entries
            data = put[_NEW] = dump(new.bundle, entries)
            self.journal.remember(data, new.bundle, entries)
            put |= {_NEW_SOURCE: new.source} if new.source else {}
        self.leadership.commit(put)

    def leave_out(self, died: Away) -> None:
        """Devices have died while the change was under way: they may have got a part of it."""
        intent = _object(self.journal.store.read(_INTENT)[_INTENT])
        away = _away(intent.get("died"))
        intent["died"] = _away_value(away.joined(died))
        self.leadership.commit({_INTENT: _json(intent)})

    def begin(self, stage: int) -> None:
        """A stage of the intended change begins."""
        self._progress(stage, undoing=False)

    def undo(self, stage: int) -> None:
        """A stage of the intended change is going to be undone, all after it have been."""
        self._progress(stage, undoing=True)

    def end(self, stage: int) -> None:
        """A stage has ended: the next one begins, if there is one."""
        self._progress(stage + 1, undoing=False)

    def _progress(self, stage: int, *, undoing: bool) -> None:
        self.leadership.commit({_PROGRESS: _json({"stage": stage, "undoing": undoing})})

    def replaced(self, device: str, saved: bytes) -> None:
        """A pipeline and all that is on it are about to be replaced; kept until the change is over."""
        self.leadership.commit({f"{_REPLACED}{device}": saved})

    def saved(self, device: str) -> bytes | None:
        """The pipeline that the change under way replaced on a device."""
        return self.journal.store.read(f"{_REPLACED}{device}").get(f"{_REPLACED}{device}")

    def finished(self) -> None:
        """What was intended is so."""
        stored = self.journal.store.read(_TRANSACTION)
        intent = _object(stored[_INTENT])
        key = f"{_GRAPHS}{intent['graph']}"
        away = _away(intent.get("away")).joined(_away(intent.get("died")))
        put: dict[str, bytes] = {}
        if away and (undone := self.journal.intent()) is not None:
            put = self._owing(self.journal.deployed().get(undone.graph), undone.new, away)
        delete = [*stored]
        if intent["new"] is None:
            delete += [key, f"{key}{_BUNDLE}"]
        else:
            put |= {key: _json(intent["new"]), f"{key}{_BUNDLE}": stored[_NEW]}
        if _NEW_SOURCE in stored:
            put[f"{key}{_SOURCE}"] = stored[_NEW_SOURCE]
        else:
            delete.append(f"{key}{_SOURCE}")
        self.leadership.commit(put, delete)

    def _owing(
        self, version: Deployed | None, other: Deployed | None, away: Away
    ) -> dict[str, bytes]:
        """What a change leaves of a version on devices that are away: NFs where the other one has none,
        and if there is no other its entries (else every switch is compared with that)."""
        if version is None or not away:
            return {}
        bundle = version.bundle
        switches = tuple(s for s in bundle.pipeline_of if other is None and s in away.devices)
        left = tuple(c for c in _cores(version) if c in away.cores and c not in _cores(other))
        debt = Owed(bundle.graph, bundle.graph_id, switches, left)
        before = (d for d in self.journal.owed() if d.graph_id == bundle.graph_id)
        debt = next(before, debt).joined(debt)
        return {_owed_key(debt): _owed_value(debt)} if debt.places else {}

    def rewrite(self, graphs: Mapping[str, Deployed]) -> None:
        """Graphs are deployed as these say from now on, with no change under way."""
        put: dict[str, bytes] = {}
        delete: list[str] = []
        for name, deployed in graphs.items():
            put[f"{_GRAPHS}{name}"] = _json(_described(deployed))
            put[f"{_GRAPHS}{name}{_BUNDLE}"] = dump(deployed.bundle)
            if deployed.source:
                put[f"{_GRAPHS}{name}{_SOURCE}"] = deployed.source
            else:
                delete.append(f"{_GRAPHS}{name}{_SOURCE}")
        self.leadership.commit(put, delete)

    def paid(self, owed: Owed, left: Owed) -> None:
        """Devices of a removed graph have been cleaned: this is left."""
        if left.places:
            self.leadership.commit({_owed_key(owed): _owed_value(left)})
        else:
            self.leadership.commit({}, [_owed_key(owed)])

    def cordon(self, names: Collection[str]) -> None:
        """These and no others are cordoned."""
        self.leadership.commit({_CORDONED: _json({"names": sorted(names)})})

    def undone(self) -> None:
        """What was before is so again, but for what devices have that died meanwhile."""
        stored = self.journal.store.read(_TRANSACTION)
        put: dict[str, bytes] = {}
        if died := _away(_object(stored.get(_INTENT, b"{}")).get("died")):
            intent = self.journal.intent()
            assert intent is not None
            put = self._owing(intent.new, self.journal.deployed().get(intent.graph), died)
        self.leadership.commit(put, stored)


def now() -> str:
    """This moment, as journals note it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def controller_name() -> str:
    """This controller in words that an operator can follow."""
    return f"process {os.getpid()} on {os.uname().nodename}"


def _cores(version: Deployed | None) -> frozenset[Core]:
    workers = () if version is None else version.bundle.workers
    return frozenset(Core(worker.server, worker.core) for worker in workers)


def _described(deployed: Deployed) -> dict[str, Any]:
    secret = deployed.manifest
    return {
        "deployed_at": deployed.deployed_at,
        "manifest": None if secret is None else [secret.threshold, secret.key0, secret.key1],
    }


def _away(raw: dict[str, Any] | None) -> Away:
    if not raw:
        return Away()
    cores = {Core(server, index): why for server, index, why in raw["cores"]}
    return Away(_devices(raw), cores)


def _away_value(away: Away) -> dict[str, Any]:
    cores = [[core.server, core.index, why] for core, why in away.cores.items()]
    return {"devices": dict(away.devices), "cores": cores}


def _devices(raw: dict[str, Any]) -> Any:
    """What is noted of devices; StoreError for notes of versions that knew switches only."""
    if "devices" not in raw:
        raise StoreError(
            "the journal is an earlier version's: finish with that one (`recover`, `reconcile`), or "
            "take the network down"
        )
    return raw["devices"]


def _owed_key(owed: Owed) -> str:
    return f"{_OWED}{owed.graph_id}"


def _owed_value(owed: Owed) -> bytes:
    return _json(
        {
            "graph": owed.graph,
            "graph_id": owed.graph_id,
            "devices": owed.devices,
            "cores": [[core.server, core.index] for core in owed.cores],
        }
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        return json.loads(data)
    except ValueError as error:
        raise StoreError(f"the journal is damaged: {error}") from error
