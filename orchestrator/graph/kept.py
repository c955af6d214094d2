"""A checked graph as one document, what its files said included: it is compiled again without them.

The journal keeps it with the graph's bundle, so that a graph can be placed anew when devices die. It is
this program's own document, no input of users'.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import StoreError
from orchestrator.model.graph import NfInstance, ServiceGraph
from orchestrator.nfs.base import FILE_LINES, FROM_FILE, NfConfig, lookup

FORMAT = 1
_LEVEL = 1
"""Of compression: rules are much alike, and it is in the way of every deployment."""
_GRAPHS = TypeAdapter(ServiceGraph)
_LINES = TypeAdapter(tuple[int, ...])


def dump_graph(graph: ServiceGraph) -> bytes:
    """The graph as a document."""
    bare = {name: dataclasses.replace(nf, config=None) for name, nf in graph.nfs.items()}
    document = {
        "format": FORMAT,
        "graph": _GRAPHS.dump_python(dataclasses.replace(graph, nfs=bare), mode="json"),
        "configs": {name: _config_document(nf.config) for name, nf in graph.nfs.items()},
    }
    return zlib.compress(json.dumps(document).encode(), _LEVEL)


def restored(data: bytes, source: str) -> ServiceGraph:
    """The graph of such a document; StoreError, which names `source`, when it is none."""
    try:
        document = json.loads(zlib.decompress(data))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}; this version reads {FORMAT}")
        graph = _GRAPHS.validate_python(document["graph"])
        nfs = {name: _restored_nf(nf, document["configs"][name]) for name, nf in graph.nfs.items()}
    except (ValueError, LookupError, TypeError, ValidationError, zlib.error) as error:
        raise StoreError(f"{source}: its graph cannot be read: {error}") from error
    return dataclasses.replace(graph, nfs=nfs)


def _restored_nf(nf: NfInstance, document: Mapping[str, Any]) -> NfInstance:
    kind = lookup(nf.type).Config
    config = kind.model_validate(document["config"])
    if (read := document.get("from_file")) is not None:
        setattr(config, FROM_FILE, _read_by(kind).validate_python(read))
    if (lines := document.get("lines")) is not None:
        setattr(config, FILE_LINES, _LINES.validate_python(lines))
    return dataclasses.replace(nf, config=config)


def _config_document(config: NfConfig) -> dict[str, Any]:
    document: dict[str, Any] = {
        "config": config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    }
    if read := getattr(config, FROM_FILE, ()):
        document["from_file"] = _read_by(type(config)).dump_python(read, mode="json")
    if lines := getattr(config, FILE_LINES, ()):
        document["lines"] = lines
    return document


def _read_by(kind: type[NfConfig]) -> TypeAdapter[Any]:
    """How a config has what its file said."""
    return TypeAdapter(get_type_hints(kind, include_extras=True)[FROM_FILE])
