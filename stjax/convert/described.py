"""What a weights file says of its network, as JSON and back: every value's type and range is checked."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, get_args

from stjax.convert.tensors import Malformed, parsed
from stjax.errors import printable
from stjax.networks.two_stream import Fusion, TwoStream
from stjax.preprocess import Preprocessing
from stjax.types import STREAMS

FORMAT = 1
WIDEST = 1 << 20
"""Units of a layer."""
LARGEST_INPUT = 4096
"""Pixels a side."""
LONGEST_CLIP = 256
"""Samples, and flow fields of one sample."""
LONGEST_NAME = 200
"""Letters of a class name; the longest of ImageNet's has 121."""
LONGEST_TEXT = 100_000
"""Letters of an origin or provenance."""
BLOCKS = 10

Value = TypeVar("Value")


class Part(NamedTuple):
    """Where the parameters of one part of a network come from, in plain words."""

    layers: str
    trained: bool
    origin: str


class Source(NamedTuple):
    """A file that a network was converted from."""

    file: str
    sha256: str
    container: str
    table: str


class Described(NamedTuple):
    """All of a `Model` that is neither an array nor a matter of its file.

    provenance, rough, floored: of its statistics.
    """

    module: TwoStream
    preprocessing: Preprocessing = Preprocessing()
    parts: tuple[Part, ...] = ()
    class_names: tuple[str, ...] = ()
    provenance: str = ""
    sources: tuple[Source, ...] = ()
    made: str = ""
    rough: Mapping[str, str] = MappingProxyType({})
    floored: Mapping[str, tuple[int, ...]] = MappingProxyType({})


MODULE = tuple(
    field.name
    for field in dataclasses.fields(TwoStream)
    if field.name not in ("parent", "name", "dtype", "until", "padding", "backward")
)
"""Fields of the module that make it another network; the rest is how it is evaluated."""


def to_json(described: Described) -> str:
    """One text, to be read by `from_json`."""
    return json.dumps(
        {
            "format": FORMAT,
            "module": {name: getattr(described.module, name) for name in MODULE},
            "preprocessing": dataclasses.asdict(described.preprocessing),
            "parts": [part._asdict() for part in described.parts],
            "class_names": described.class_names,
            "statistics": described.provenance,
            "sources": [source._asdict() for source in described.sources],
            "made": described.made,
            "rough": dict(described.rough),
            "floored": dict(described.floored),
        }
    )


def from_json(text: str, arrays: int) -> Described:
    """What `to_json` wrote; its texts are made printable.

    Args:
      text: from the metadata of a file, of any origin.
      arrays: that the file holds: a network has no more layers, however many it claims.
    Raises:
      Malformed: it is no JSON, of another format, or a value is missing, unknown, of a wrong type or out of range.
    """
    said = parsed(text)
    if type(said.get("format")) is not int or said["format"] != FORMAT:
        raise Malformed(f"it must have format {FORMAT}: it has {reprlib.repr(said.get('format'))}")
    _known(said, "metadata", ("format", *_METADATA))
    module = _module(_record(said, "module"), arrays)
    described = Described(
        module,
        Preprocessing(**_read(_record(said, "preprocessing"), "preprocessing", _PREPROCESSING)),
        tuple(Part(**_whole_record(part, "parts", _PART)) for part in _sequence(said, "parts")),
        tuple(_text(name, "class_names", LONGEST_NAME) for name in _sequence(said, "class_names")),
        _text(said.get("statistics"), "statistics", LONGEST_TEXT),
        tuple(Source(**_whole_record(source, "sources", _SOURCE)) for source in _sequence(said, "sources")),
        _text(said.get("made", ""), "made", LONGEST_TEXT),
        _by_layer(said, "rough", module, _plain(LONGEST_TEXT)),
        _by_layer(said, "floored", module, _tuple(_whole(0, WIDEST), 0, WIDEST)),
    )
    if len(described.class_names) not in (0, module.num_classes):
        raise Malformed(f"{module.num_classes} classes cannot have {len(described.class_names)} names")
    return described


def _module(said: Mapping[str, Any], arrays: int) -> TwoStream:
    module = TwoStream(**_read(said, "module", _MODULE))
    if sum(map(len, module.widths)) > arrays:
        raise Malformed(f"a network of {sum(map(len, module.widths))} layers needs more than {arrays} arrays")
    if module.head_side < 1:
        raise Malformed(f"an input of {module.input_size} px is too small for {len(module.widths)} blocks")
    return module


Reader = Callable[[Any, str], Any]
"""A value of JSON and its name -> the value in our type, or Malformed."""


def _read(said: Mapping[str, Any], what: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values of an object; one that is absent has its default, as in a file that is older than it."""
    _known(said, what, readers)
    return {name: readers[name](value, f"{what}.{name}") for name, value in said.items()}


def _whole_record(said: Any, what: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    if not isinstance(said, dict) or said.keys() != readers.keys():
        raise Malformed(f"each of {what} must have {', '.join(readers)}: got {reprlib.repr(said)}")
    return _read(said, what, readers)


def _known(said: Mapping[str, Any], what: str, names: Mapping[str, Any] | Sequence[str]) -> None:
    unknown = [name for name in said if name not in names]
    if unknown:
        raise Malformed(f"{what} has the unknown name {reprlib.repr(unknown[0])}")


def _record(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _typed(said.get(name), name, dict, "an object")


def _by_layer(said: Mapping[str, Any], name: str, module: TwoStream, reader: Reader) -> dict[str, Any]:
    values = _typed(said.get(name, {}), name, dict, "an object")
    _known(values, name, module.layers)
    return {layer: reader(value, f"{name}.{layer}") for layer, value in values.items()}


def _sequence(said: Mapping[str, Any], name: str) -> list[Any]:
    return _typed(said.get(name, []), name, list, "a list")


def _typed(value: Any, what: str, kind: type[Value], named: str) -> Value:
    # Not isinstance: True is no number here.
    if type(value) is not kind:
        raise Malformed(f"{what} must be {named}: got {reprlib.repr(value)}")
    return value


def _text(value: Any, what: str, most: int) -> str:
    """What JSON calls a string may hold halves of pairs, which no file and no terminal takes."""
    text = _typed(value, what, str, "a text")
    if len(text) > most:
        raise Malformed(f"{what} must have up to {most:,} letters: got {len(text):,}")
    return printable(text)


def _whole(low: int, high: int) -> Reader:
    def read(value: Any, what: str) -> int:
        number = _typed(value, what, int, "a whole number")
        if not low <= number <= high:
            raise Malformed(f"{what} must lie in {low}..{high}: got {reprlib.repr(number)}")
        return number

    return read


def _grey(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 255:
        raise Malformed(f"{what} must be a grey level, 0..255: got {reprlib.repr(value)}")
    return float(value)


def _chosen(*options: str) -> Reader:
    def read(value: Any, what: str) -> str:
        if value not in options:
            raise Malformed(f"{what} must be one of {', '.join(options)}: got {reprlib.repr(value)}")
        return value

    return read


def _tuple(item: Reader, least: int, most: int) -> Reader:
    def read(value: Any, what: str) -> tuple[Any, ...]:
        items = _typed(value, what, list, "a list")
        if not least <= len(items) <= most:
            raise Malformed(f"{what} must have {least}..{most} items: got {len(items)}")
        return tuple(item(value, what) for value in items)

    return read


def _inputs(value: Any, what: str) -> tuple[str, ...]:
    names = _tuple(_chosen(*STREAMS), 1, 2)(value, what)
    if list(names) != sorted(set(names), key=STREAMS.index):
        raise Malformed(f"{what} must name streams once each, in the order {', '.join(STREAMS)}")
    return names


def _plain(most: int) -> Reader:
    return lambda value, what: _text(value, what, most)


_MODULE: Mapping[str, Reader] = {
    "widths": _tuple(_tuple(_whole(1, WIDEST), 1, 1000), 1, BLOCKS),
    "fields": _whole(1, LONGEST_CLIP),
    "samples": _whole(1, LONGEST_CLIP),
    "fusion": _chosen(*get_args(Fusion)),
    "towers": _whole(1, 2),
    "dense": _tuple(_whole(1, WIDEST), 0, 100),
    "num_classes": _whole(0, WIDEST),
    "input_size": _whole(1, LARGEST_INPUT),
    "inputs": _inputs,
}
_PREPROCESSING: Mapping[str, Reader] = {"mean": _tuple(_grey, 3, 3), "flow_mean": _grey}
_PART: Mapping[str, Reader] = {
    "layers": _plain(LONGEST_TEXT),
    "trained": lambda value, what: _typed(value, what, bool, "true or false"),
    "origin": _plain(LONGEST_TEXT),
}
_SOURCE: Mapping[str, Reader] = {name: _plain(LONGEST_TEXT) for name in Source._fields}
_METADATA = ("module", "preprocessing", "parts", "class_names", "statistics", "sources", "made", "rough", "floored")
