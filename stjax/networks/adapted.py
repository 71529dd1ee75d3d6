"""A network of your own as one that describes itself: a flax.linen module, a split nnx module, or a plain function.

It takes a clip and returns (scores or None, {layer: activations}), of a batch or not, and with maps of fewer axes where
it is an image network. Here all become maps (time, height, width, channels) of one clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from stjax.errors import UsageError
from stjax.networks.geometry import ALONG
from stjax.types import Activations, Clip, Input, Layer, streams

CLASSES = "classes"
"""The layer that a network's scores become, unless it has one of that name."""
RETURNS = "(scores or None, {layer: activations})"


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A module from outside, with what it says of itself or what was found out: see `stjax.networks.discovery`.

    Args:
      module: what computes; hashable and compared by value, as flax modules are.
      inputs, layers: as of every network.
      batched: whether the module wants a batch axis.
      until: the last layer to return, None for all.
    """

    module: Any
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...] = ()
    batched: bool = False
    until: str | None = None

    most_on_cpu: ClassVar[int] = 8
    """Clips that a CPU takes at once: XLA's own convolutions take them one by one, and a place that is padded costs as
    much as one that is not."""

    def apply(self, variables: Mapping[str, Any], clip: Clip) -> tuple[Array | None, Activations]:
        """Scores (classes,) and maps of one clip."""
        scores, maps = self.computed(variables["params"], clip)
        present = {each.name for each in self.inputs if getattr(clip, each.name) is not None}
        reached = [layer.name for layer in self.layers if present.issuperset(layer.inputs)]
        if self.until is None:
            return scores if len(present) == len(self.inputs) else None, {name: maps[name] for name in reached}
        return None, {name: maps[name] for name in reached[: reached.index(self.until) + 1]}

    def for_layer(self, name: str, exact: tuple[bool, bool, bool]) -> Adapted | None:
        """The network as far as a layer; there is no exact form: a module pads as it does."""
        return None if any(exact) else replace(self, until=name)

    def computed(self, params: Any, clip: Clip) -> tuple[Array | None, Activations]:
        """What the module returns, in our shapes and the module's order. A stream that is absent is shown as zeros.

        Raises:
          UsageError: it returns something else.
        """
        given = _completed(self.inputs, clip)
        given = jax.tree.map(lambda x: x[None], given) if self.batched else given
        returned = caller(self.module)(params, given)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)):
            raise UsageError(f"a network must return {RETURNS}: {_name(self.module)} returned {_words(returned)}")
        scores, activations = returned
        if not activations and scores is None:
            raise UsageError(f"a network must have a layer to look into: {_name(self.module)} returned none")
        lead = 1 if self.batched else 0
        maps = {str(name): _map(self.module, str(name), a, lead) for name, a in activations.items()}
        if scores is not None and CLASSES not in maps:
            maps[CLASSES] = _map(self.module, "scores", scores, lead)
        return (None if scores is None else scores.reshape(scores.shape[lead:])), maps


def caller(module: Any) -> Callable[[Any, Clip], Any]:
    """`module` as a function of (params, clip).

    Raises:
      UsageError: it is nothing that can be called so.
    """
    if isinstance(module, nn.Module):
        # Other collections (`batch_stats`) may ride in params.
        return lambda params, clip: module.apply(params if "params" in params else {"params": params}, clip)
    if isinstance(module, nnx.GraphDef):
        return lambda params, clip: nnx.merge(module, params)(clip)
    if isinstance(module, nnx.Module):
        raise UsageError(
            f"an nnx module must be split: {_name(module)} is whole; nearest: graphdef, state = nnx.split(module)"
        )
    if callable(module):
        return module
    raise UsageError(
        "a network must be a flax.linen module, the graphdef of a split nnx module, or a function of (params, clip): "
        f"got {type(module).__name__}"
    )


def _completed(inputs: tuple[Input, ...], clip: Clip) -> Clip:
    """Zeros for the streams that a layer does not see, cut as the others are, so that what joins them still fits."""
    given = streams(inputs, clip)
    absent = [each for each in inputs if getattr(clip, each.name) is None]
    for each in absent if given else ():
        shape = list(each.shape)
        for axis in ALONG:
            other, x = given[0]
            if other.length(axis) == each.length(axis):
                shape[each.axis(axis)] = x.shape[other.axis(axis)]
        clip = clip._replace(**{each.name: jnp.zeros(shape, jnp.float32)})
    return clip


def _map(module: Any, name: str, a: Any, lead: int) -> Array:
    """(time, height, width, channels) of what has fewer axes: a picture's map, or a vector."""
    shape = getattr(a, "shape", None)
    if shape is None or not lead + 1 <= len(shape) <= lead + 4 or (lead and shape[0] != 1):
        raise UsageError(
            f"activations must be arrays (time, height, width, channels), (height, width, channels) or (channels,)"
            f"{', of a batch' if lead else ''}: {name} of {_name(module)} is {_words(a)}"
        )
    axes = shape[lead:]
    if len(axes) == 2:
        return a.reshape(axes[0], 1, 1, axes[1])
    return a.reshape(*(1,) * (4 - len(axes)), *axes)


def _name(module: Any) -> str:
    return getattr(module, "__name__", None) or type(module).__name__


def _words(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a {type(value).__name__}"
