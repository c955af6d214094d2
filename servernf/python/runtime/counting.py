"""What an instance counts, by the names that queryMetrics tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from servernf.python.runtime.tables import Instance


def instance_metrics(instance: Instance, *, measured: bool = False) -> dict[str, int]:
    """Counters of an instance; `measured`: the size of its state, too, which may take its time."""
    name, nf = instance.name, instance.nf
    drops = list(nf.drops.items())
    metrics = {f"{name}.packets": instance.tally.packets}
    metrics[f"{name}.drops"] = sum(count for _, count in drops)
    metrics |= {f"{name}.drop.{reason}": count for reason, count in drops}
    metrics |= {f"{name}.{key}": count for key, count in nf.metrics().items()}
    metrics |= instance.tally.times.metrics(name)
    if measured and nf.state.tables:
        records, size = nf.state.size()
        metrics |= {f"{name}.state_records": records, f"{name}.state_bytes": size}
    return metrics


def worker_metrics(
    frames_in: int, frames_out: int, drops: Iterable[Mapping[str, int]]
) -> dict[str, int]:
    """Counters of a worker itself; may be called from another thread."""
    metrics = {"frames_in": frames_in, "frames_out": frames_out}
    for counts in drops:
        metrics |= {f"drop.{reason}": count for reason, count in list(counts.items())}
    return metrics
