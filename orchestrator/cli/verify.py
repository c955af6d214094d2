"""`orchestrator verify`: keys of the roles, and the manifest that customer and provider sign."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import read as read_bundle
from orchestrator.cli.options import takes
from orchestrator.cli.output import Json, print_json, say
from orchestrator.errors import InputError
from orchestrator.files import read_regular, write_whole
from orchestrator.graph import load_graph
from orchestrator.verification import keys, manifest
from orchestrator.verification.keys import (
    commitment,
    new_private,
    new_sampling_key,
    public_key,
    public_text,
)

verify_app = typer.Typer(help="Show that the network does what was agreed.", no_args_is_help=True)
manifest_app = typer.Typer(
    help="The verification manifest: what customer and provider agree on.", no_args_is_help=True
)
key_app = typer.Typer(help="Keys of customer, provider and CLE.", no_args_is_help=True)
verify_app.add_typer(manifest_app, name="manifest")
verify_app.add_typer(key_app, name="key")

ManifestFile = Annotated[Path, typer.Argument(help="The manifest.")]
NewFile = Annotated[Path, typer.Argument(help="The file to make; none is overwritten.")]
GraphFile = Annotated[Path | None, typer.Option("--graph", help="The service graph (graph.json).")]
BundleFile = Annotated[
    Path | None, typer.Option("--bundle", help="The bundle that is meant to run (compile -o).")
]


@key_app.command("new", epilog="Example: orchestrator verify key new customer.pem")
def key_new(file: NewFile, as_json: Json = False) -> None:
    """A signing key (Ed25519, 0600), and its public key in FILE with the suffix .pub."""
    public = public_text(new_private(file))
    if as_json:
        print_json({"key": str(file), "public": public})
    else:
        say(f"{file}: its public key is {public}")


@key_app.command("sampling", epilog="Example: orchestrator verify key sampling watch.key")
def key_sampling(file: NewFile, as_json: Json = False) -> None:
    """The sampling key that customer and CLE share and the provider never has (0600).

    What is printed is its commitment, which stands in the manifest.
    """
    committed = commitment(new_sampling_key(file))
    if as_json:
        print_json({"key": str(file), "commitment": committed})
    else:
        say(f"{file}: its commitment is {committed}")


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """What `verify manifest new` was asked for."""

    graph: Annotated[Path, typer.Argument(help="The service graph (graph.json).")]
    bundle: Annotated[Path, typer.Argument(help="The bundle that is meant to run (compile -o).")]
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
    customer: Annotated[Path, typer.Option(help="The customer's public key (key new).")]
    provider: Annotated[Path, typer.Option(help="The provider's public key.")]
    cle_key: Annotated[Path, typer.Option("--cle", help="The CLE's public key.")]
    sampling_key: Annotated[Path, typer.Option(help="The sampling key (key sampling).")]
    rate: Annotated[float, typer.Option(help="Share of packets.", min=0, max=1)] = 0.01
    flows: Annotated[float, typer.Option(help="Share of flows, whole.", min=0, max=1)] = 0.0
    switches: Annotated[
        bool, typer.Option("--switches", help="Switches of the graph report, too (cle collect).")
    ] = False
    as_json: Json = False


@manifest_app.command(
    "new",
    epilog="Example: orchestrator verify manifest new graph.json graph.bundle -o manifest.json "
    "--customer customer.pub --provider provider.pub --cle cle.pub --sampling-key watch.key",
)
@takes(ManifestOptions)
def manifest_new(options: ManifestOptions) -> None:
    """Write a manifest with what is usual, to be edited and signed by both."""
    roles = manifest.Roles(
        customer=public_of(options.customer),
        provider=public_of(options.provider),
        cle=public_of(options.cle_key),
    )
    references = manifest.MeantSoftware(
        servernf=manifest.servernf_digest(), bundle=digest_of(options.bundle)
    )
    secret = keys.sampling_key(options.sampling_key, "--sampling-key")
    sampling = manifest.Sampling(
        packets=options.rate, flows=options.flows, key=keys.commitment(secret)
    )
    service_graph = load_graph(options.graph).graph
    made = manifest.new(
        service_graph,
        read_bundle(options.bundle).bundle,
        references,
        sampling,
        roles,
        switches=options.switches,
    )
    write_whole(options.output, made.text())
    if options.as_json:
        print_json(made.model_dump(mode="json"))
    else:
        say(
            f"{options.output}: {service_graph.name}, {len(made.manifest.points)} points, "
            f"rate {options.rate:g}; not signed"
        )


@manifest_app.command(
    "sign",
    epilog="Example: orchestrator verify manifest sign manifest.json --role customer --key customer.pem",
)
def manifest_sign(
    file: ManifestFile,
    role: Annotated[str, typer.Option(help="customer or provider.")],
    key: Annotated[Path, typer.Option(help="Its signing key.")],
    as_json: Json = False,
) -> None:
    """Add a signature; the other one stays, unless the manifest has changed since."""
    signed = manifest.sign(manifest.read(file), role, keys.private_key(key, "--key"))
    write_whole(file, signed.text())
    if as_json:
        print_json({"manifest": str(file), "signatures": sorted(signed.signatures)})
    else:
        say(f"{file}: signed by {' and '.join(sorted(signed.signatures))}")


@manifest_app.command(
    "check",
    epilog="Example: orchestrator verify manifest check manifest.json --graph graph.json "
    "--bundle graph.bundle",
)
def manifest_check(
    file: ManifestFile, graph: GraphFile = None, bundle: BundleFile = None, as_json: Json = False
) -> None:
    """Report everything that is wrong at once: terms, signatures, and against graph and bundle."""
    signed = manifest.read(file)
    service_graph = None if graph is None else load_graph(graph).graph
    packed = None if bundle is None else read_bundle(bundle).bundle
    try:
        manifest.check(signed, service_graph, packed, "" if bundle is None else digest_of(bundle))
    except InputError as error:
        raise InputError([f"{file}: {problem}" for problem in error.problems]) from None
    if as_json:
        print_json({"manifest": str(file), "graph": signed.manifest.graph, "ok": True})
    else:
        say(f"{file}: {signed.manifest.graph}, signed by customer and provider, nothing is wrong")


def public_of(path: Path) -> str:
    """The public key of a file."""
    text = read_regular(path, str(path), 1 << 12).decode("ascii", "replace").strip()
    public_key(text, str(path))
    return text


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(read_regular(path, str(path))).hexdigest()
