"""The record of a result: a line of a manifest, as a type. Its schema stands here, once, and is written and read here.

Every line begins with the number of its schema, so that one that was cut short is told from a stranger's, and a folder
of another version from a damaged one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from stjax import endings
from stjax.errors import UsageError
from stjax.types import Input, Role

SCHEMA = 1
"""The number of the schema below: another one for each change of a name, a kind or a meaning."""
OPENING = b'{"schema": '
"""Of every line; of one that was cut short as far as it goes."""
OLDER = b'{"layer": '
"""Of the lines that were written before there was a number."""


class Unfinished(ValueError):
    """A line that was cut short, by a power failure say: what it was to say is not known."""


class OtherSchema(UsageError):
    """A line that another version of stjax wrote.

    Args:
      age: "older" or "newer".
    """

    def __init__(self, age: str) -> None:
        super().__init__(f"a line must be of schema {SCHEMA}: a version of stjax that is {age} than this one wrote it")
        self.age = age


class Kind(NamedTuple):
    """What may stand in a field: in words, and as a test that may raise at values of other types."""

    words: str
    fits: Callable[[Any], Any]


def _is_text(x: Any) -> bool:
    return isinstance(x, str) and x.isprintable()


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and isinstance(float(x), float)


def _by_name(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, dict) and all(_is_text(name) and fits(value) for name, value in x.items())


def _is_array_file(x: str) -> bool:
    return x.isprintable() and x.startswith("arrays/") and ".." not in x.split("/")


Text = Annotated[str, Kind("a text", _is_text)]
TextOrNull = Annotated[str | None, Kind("a text or null", lambda x: x is None or _is_text(x))]
Truth = Annotated[bool, Kind("true or false", lambda x: isinstance(x, bool))]
Whole = Annotated[int, Kind("a whole number", lambda x: type(x) is int and 0 <= x < 2**31)]
Seed = Annotated[int, Kind("a whole number below 2^64", lambda x: type(x) is int and 0 <= x < 2**64)]
Number = Annotated[float, Kind("a number", _is_number)]
Chi = Annotated[
    float | None,
    Kind("a number >= 0, or null", lambda x: x is None or (_is_number(x) and 0 <= float(x) < math.inf)),
]
Numbers = Annotated[Mapping[str, float], Kind("numbers by name", _by_name(_is_number))]
Texts = Annotated[Mapping[str, str], Kind("texts by name", _by_name(_is_text))]
Limit = Annotated[
    float | Mapping[str, float],
    Kind("a number, or numbers by name", lambda x: _is_number(x) or _by_name(_is_number)(x)),
]
Three = Annotated[
    tuple[float, float, float],
    Kind("three numbers", lambda x: isinstance(x, list) and len(x) == 3 and all(map(_is_number, x))),
]
Hash = Annotated[str, Kind("a hash", lambda x: re.fullmatch("[0-9a-f]{16}", x))]
HashOrNull = Annotated[str | None, Kind("a hash or null", lambda x: x is None or re.fullmatch("[0-9a-f]{16}", x))]
Sha256 = Annotated[str, Kind("a sha256", lambda x: re.fullmatch("[0-9a-f]{64}", x))]
ArrayFile = Annotated[str, Kind("a file below arrays", _is_array_file)]
Ending = Annotated[str, Kind("one of " + ", ".join(endings.ALL), lambda x: x in endings.ALL)]
RoleName = Annotated[Role, Kind("one of " + ", ".join(typing.get_args(Role)), lambda x: x in typing.get_args(Role))]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all results of a layer in a folder were found with.

    Args:
      identity: hash of the layer and of those settings below that a result depends on, see `atlas.resume`.
      model: its name.
      weights: checksum of the model's weights.
      statistics: hash of the layer's ahat.
      rough: why that is a rough scale and no more, null if it is not.
      mean: RGB in grey levels, what preprocessing took from frames.
      recipe: its name.
      steps: of ascent.
      constants: hash of all that the recipe says besides.
      objective_weight: of the objective against the penalties.
      bound: B, the longest a pixel's vector may be, in grey levels; one number, or one of each kind of input.
      kappa: weight of the spatial variation.
      seed: of the starts and of what is drawn on the way.
      prng: the generator that turns it into numbers.
      initial: hash of the clip that a run began from, null if that was noise.
      precision: of the network's arithmetic while climbing.
      chunk: how many units each device stepped together, which decides the last bits.
      device: the kind of device.
      versions: of the packages, by name.
    """

    identity: Hash
    model: Text
    weights: Text
    statistics: Hash
    rough: TextOrNull
    mean: Three
    recipe: Text
    steps: Whole
    constants: Hash
    objective_weight: Number
    bound: Limit
    kappa: Number
    seed: Seed
    prng: Text
    initial: HashOrNull
    precision: Text
    chunk: Whole
    device: Text
    versions: Texts


class Coordinates(NamedTuple):
    """What tells a result from the others of its folder."""

    layer: str
    unit: int
    chi: float | None
    start: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """One result: what was asked, what came of it, and where its arrays are.

    `value` is equation (1), see `stjax.ascent`: objective_weight / (rho^2 ahat) activation_end minus the sum of
    `penalties`, of the stored arrays. They are measured in a forward pass over these arrays, at the centre of the
    layer's map: by `stjax.probe(network, layer, whole=whole)`.

    Args:
      layer: one of the network's.
      role: of the layer, see `stjax.Layer`.
      unit: channel number.
      name: of a class; null where it has none.
      chi: slowness in units of kappa; null where no input can be slow.
      start: which of several optima of the unit this is.
      inputs: those that the layer sees; their shapes are those of the stored arrays.
      settings: what all results of the layer were found with.
      ahat: of the unit.
      rho: side of the receptive field, pixels.
      whole: whether the arrays are as large as the network's inputs.
      activation_start: a(x) of the start.
      activation_end: a(x) of the arrays.
      value: of equation (1).
      penalties: name -> 80^-6 N(x), kappa D_s(x), kappa chi D_t(x), see `stjax.ascent.regularizers`.
      gradient_max: stream -> the largest |d a / d x| of all steps.
      ending: a word of `stjax.endings`.
      arrays: file of the arrays, relative to the manifest's folder.
      sha256: of that file.
    """

    layer: Text
    role: RoleName
    unit: Whole
    name: TextOrNull
    chi: Chi
    start: Whole
    inputs: tuple[Input, ...]
    settings: Settings
    ahat: Number
    rho: Number
    whole: Truth
    activation_start: Number
    activation_end: Number
    value: Number
    penalties: Numbers
    gradient_max: Numbers
    ending: Ending
    arrays: ArrayFile
    sha256: Sha256

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(self.layer, self.unit, self.chi, self.start)

    def input(self, stream: str) -> Input | None:
        """The input of a stream; None if the layer does not see it."""
        return next((each for each in self.inputs if each.name == stream), None)

    def to_json(self) -> str:
        """The record as a line."""
        inputs = {each.name: {"kind": each.kind, "shape": each.shape, "slow": each.slow} for each in self.inputs}
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        settings = dataclasses.asdict(self.settings)
        return json.dumps({"schema": SCHEMA, **fields, "inputs": inputs, "settings": settings}, allow_nan=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """The record of a line. A line has every field of the schema, and no other: what is not known would be lost.

        Raises:
          Unfinished: the line was cut short.
          OtherSchema: another version of stjax wrote it.
          UsageError: stjax did not write it; the text says in a few words why.
        """
        line = _parsed(text.encode() if isinstance(text, str) else text)
        del line["schema"]
        fields: dict[str, Any] = dict(_checked(cls, line))
        fields["inputs"], fields["settings"] = _inputs(fields["inputs"]), _settings(fields["settings"])
        return cls(**fields)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text)
    # Also of bytes that are no text, and of numbers of thousands of digits.
    except (ValueError, RecursionError):
        if text.startswith(OLDER):
            raise OtherSchema("older") from None
        if text.startswith(OPENING) or OPENING.startswith(text.strip(b"\0 \r")):
            raise Unfinished("it was cut short") from None
        raise UsageError("it is none") from None
    if not isinstance(line, dict):
        raise UsageError("it has no names")
    if "schema" not in line and {"layer", "unit", "chi", "arrays"} <= line.keys():
        raise OtherSchema("older")
    schema = line.get("schema")
    if type(schema) is not int:
        raise UsageError(f"schema must be a whole number: got {_short(schema)}")
    if schema != SCHEMA:
        raise OtherSchema("older" if schema < SCHEMA else "newer")
    return line


def _checked(of: type, values: Any) -> dict[str, Any]:
    """Values by name, if they are all fields of a dataclass, and of their kinds."""
    kinds = _kinds(of)
    if not isinstance(values, dict):
        raise UsageError(f"{of.__name__.lower()} must be values by name: got {_short(values)}")
    if unknown := sorted(values.keys() - kinds.keys()):
        raise UsageError(f"a name must be one of the schema's: got {', '.join(unknown)[:80]}")
    for name, kind in kinds.items():
        if name not in values:
            raise UsageError(f"{name} must be there")
        try:
            fits = kind is None or kind.fits(values[name])
        # Of what has another type altogether.
        except (TypeError, ValueError, AttributeError, OverflowError):
            fits = False
        if kind and not fits:
            raise UsageError(f"{name} must be {kind.words}: got {_short(values[name])}")
    return values


@functools.cache
def _kinds(of: type) -> dict[str, Kind | None]:
    """Of each field of a dataclass what may stand in it; None of one that is looked at apart."""
    hints = typing.get_type_hints(of, include_extras=True)
    return {
        each.name: next(iter(getattr(hints[each.name], "__metadata__", ())), None) for each in dataclasses.fields(of)
    }


def _settings(values: Any) -> Settings:
    fields: dict[str, Any] = dict(_checked(Settings, values))
    fields["mean"] = tuple(fields["mean"])
    return Settings(**fields)


def _inputs(values: Any) -> tuple[Input, ...]:
    try:
        inputs = tuple(Input(name=name, **each | {"shape": tuple(each["shape"])}) for name, each in values.items())
    except UsageError as error:
        raise UsageError(f"inputs must be those of a network: {str(error)[:200]}") from None
    # Of what has another type altogether.
    except (TypeError, ValueError, AttributeError, KeyError):
        inputs = ()
    if not inputs:
        raise UsageError(f"inputs must be kind, shape and slow by name of a stream: got {_short(values)}")
    return inputs


def _short(value: Any) -> str:
    return json.dumps(value)[:40]
