"""What a weights file says of its network, as JSON and back: every value's type and range is checked."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from stjax import networks
from stjax.convert import declared
from stjax.convert.tensors import parsed
from stjax.errors import UsageError, one_line
from stjax.model import Origin, Part, Statistics
from stjax.networks import configuration
from stjax.networks.adapted import Adapted
from stjax.networks.configuration import (
    WIDEST,
    Architecture,
    Malformed,
    Reader,
    number,
    refuse_unknown,
    text,
    truth,
    tuple_of,
    typed,
    whole,
)
from stjax.preprocess import Preprocessing
from stjax.types import Network

FORMAT = 2
LONGEST_NAME = 200
"""Letters of a class name; the longest of ImageNet's has 121."""
LONGEST_TEXT = 100_000
"""Letters of an origin or provenance."""


class Description(NamedTuple):
    """All of a `Model` that is neither an array nor a matter of its file; `statistics` without their arrays."""

    network: Network
    preprocessing: Preprocessing = Preprocessing()
    parts: tuple[Part, ...] = ()
    class_names: tuple[str, ...] = ()
    statistics: Statistics = Statistics({}, "")
    sources: tuple[Origin, ...] = ()
    made: str = ""


def architecture_of(network: Network) -> tuple[str, Architecture]:
    """The row of `networks.ARCHITECTURES` that a network is of, and its name.

    Raises:
      UsageError: there is none.
    """
    own = module_of(network)
    for name, architecture in networks.ARCHITECTURES.items():
        if type(own) is architecture.network:
            return name, architecture
    kind = type(own).__name__
    raise UsageError(
        f"a network to be stored must be of a registered architecture ({', '.join(networks.ARCHITECTURES)}): "
        f"{kind} is of none; nearest: stjax.networks.ARCHITECTURES[{kind.lower()!r}] = Architecture({kind}, ...)"
    )


def module_of(network: Network) -> Any:
    """What an architecture is the class of: the network, or the module in it if it does not describe itself."""
    return network.module if isinstance(network, Adapted) else network


def to_json(description: Description) -> str:
    """One text, to be read by `from_json`.

    Raises:
      UsageError: the network is of no registered architecture.
    """
    network = description.network
    name, architecture = architecture_of(network)
    return json.dumps(
        {
            "format": FORMAT,
            "architecture": name,
            "configuration": {key: getattr(module_of(network), key) for key in architecture.configuration},
            **({"adapted": declared.to_json(network)} if isinstance(network, Adapted) else {}),
            "preprocessing": dataclasses.asdict(description.preprocessing),
            "parts": [part._asdict() for part in description.parts],
            "class_names": description.class_names,
            "statistics": statistics_to_json(description.statistics),
            "sources": [source._asdict() for source in description.sources],
            "made": description.made,
        }
    )


def from_json(metadata: str, arrays: int) -> Description:
    """What `to_json` wrote; its texts are made printable.

    Args:
      metadata: from that of a file, of any origin.
      arrays: that the file holds: a network has no more layers, however many it claims.
    Raises:
      Malformed: it is no JSON, of another format or of an architecture that is not registered; or a value is missing,
        unknown, of a wrong type or out of range.
    """
    values = parsed(metadata)
    refuse_format(values, FORMAT, "make the file anew, with stjax convert or the script that trained the network")
    refuse_unknown(values, "metadata", ("format", "architecture", "configuration", "adapted", *_METADATA))
    network = _network(values, arrays)
    description = Description(
        network, **{name: read(values[name], name) for name, read in _METADATA.items() if name in values}
    )
    layers = {layer.name: layer for layer in network.layers}
    for name, by_layer in (("rough", description.statistics.rough), ("floored", description.statistics.floored)):
        refuse_unknown(by_layer, name, layers)
    classes = [layer.units for layer in layers.values() if layer.role == "classes"]
    if len(description.class_names) not in (0, *classes):
        units = ", ".join(map(str, dict.fromkeys(classes))) or "no"
        raise Malformed(f"{units} classes cannot have {len(description.class_names)} names")
    return description


def refuse_format(values: Mapping[str, Any], known: int, remedy: str) -> None:
    """Refuses what another version wrote, or nobody."""
    version = values.get("format")
    if type(version) is not int or version != known:
        older = type(version) is int and version < known
        raise Malformed(
            f"it must have format {known}: it has {reprlib.repr(version)}" + (f"; {remedy}" if older else "")
        )


def statistics_to_json(statistics: Statistics) -> dict[str, Any]:
    """All but the arrays, as `statistics_from_json` reads it."""
    return {
        "provenance": statistics.provenance,
        "rough": dict(statistics.rough),
        "floored": {layer: list(units) for layer, units in statistics.floored.items()},
    }


def statistics_from_json(values: Any, what: str = "statistics") -> Statistics:
    """What `statistics_to_json` gave, without arrays.

    Raises:
      Malformed: a value is unknown, of a wrong type or out of range.
    """
    read: dict[str, Any] = {"provenance": ""} | configuration.read(values, what, _STATISTICS)
    return Statistics({}, **read)


def _network(values: Mapping[str, Any], arrays: int) -> Network:
    name = values.get("architecture")
    if type(name) is not str or name not in networks.ARCHITECTURES:
        raise Malformed(
            f"its network must be of a registered architecture ({', '.join(networks.ARCHITECTURES)}): it is of "
            f"{reprlib.repr(name)}; import the module that adds it to stjax.networks.ARCHITECTURES first, or give "
            "--model package.module:factory"
        )
    architecture = networks.ARCHITECTURES[name]
    read = configuration.read(values.get("configuration"), "configuration", architecture.configuration)
    architecture.check(read, arrays)
    try:
        network = architecture.network(**read)
        if "adapted" in values:
            network = declared.from_json(values["adapted"], network)
        # Here, since a property may fail as well.
        hash((network, network.inputs, network.layers))
    except Malformed:
        raise
    # Values that are each in range may still make no network, and each architecture says so in its own way.
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        raise Malformed(f"its configuration makes no network of the architecture {name}: {reason}") from None
    return network


def _records(kind: Any, readers: Mapping[str, Reader]) -> Reader:
    """A list of objects, each with all of the names."""

    def read(value: Any, what: str) -> tuple[Any, ...]:
        records = []
        for each in typed(value, what, list, "a list"):
            if not isinstance(each, dict) or each.keys() != readers.keys():
                raise Malformed(f"each of {what} must have {', '.join(readers)}: got {reprlib.repr(each)}")
            records.append(kind(**configuration.read(each, what, readers)))
        return tuple(records)

    return read


def _by_layer(reader: Reader) -> Reader:
    def read(value: Any, what: str) -> dict[str, Any]:
        values = typed(value, what, dict, "an object")
        return {layer: reader(each, f"{what}.{layer[:LONGEST_NAME]}") for layer, each in values.items()}

    return read


def _object(kind: Any, readers: Mapping[str, Reader]) -> Reader:
    return lambda value, what: kind(**configuration.read(value, what, readers))


_GREY = number(0, 255, "a grey level")
_STATISTICS: Mapping[str, Reader] = {
    "provenance": text(LONGEST_TEXT),
    "rough": _by_layer(text(LONGEST_TEXT)),
    "floored": _by_layer(tuple_of(whole(0, WIDEST), 0, WIDEST)),
}
_METADATA: Mapping[str, Reader] = {
    "preprocessing": _object(Preprocessing, {"mean": tuple_of(_GREY, 3, 3), "flow_mean": _GREY}),
    "parts": _records(Part, {"layers": text(LONGEST_TEXT), "trained": truth, "origin": text(LONGEST_TEXT)}),
    "class_names": tuple_of(text(LONGEST_NAME), 0, WIDEST),
    "statistics": statistics_from_json,
    "sources": _records(Origin, {name: text(LONGEST_TEXT) for name in Origin._fields}),
    "made": text(LONGEST_TEXT),
}
