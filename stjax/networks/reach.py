"""Which inputs a layer is computed from, whatever their values: read from the program that JAX makes of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

LOOPS = ("scan", "while")
"""Of whose program one round alone stands in the text, so that what goes in may come out anywhere."""

Names = frozenset[str]


def reaching(function: Callable[..., dict[str, Any]], params: Any, shapes: Any) -> dict[str, Names]:
    """The fields of a NamedTuple that each entry of what a function returns is computed from.

    Nothing is run, so a path that is closed for most values, as one behind a ReLU, counts like an open one. What goes
    into a loop or a branch is taken to reach all that comes out.

    Args:
      function: of (params, shapes) to a dict of arrays.
      params: arrays, which count as no input.
      shapes: a NamedTuple of `jax.ShapeDtypeStruct`, None for what is absent.

    >>> from stjax.types import Clip
    >>> shapes = Clip(*(jax.ShapeDtypeStruct((2,), "float32") for _ in range(2)))
    >>> {k: sorted(v) for k, v in reaching(lambda p, c: {"a": c.motion, "b": c.motion * c[0]}, {}, shapes).items()}
    {'a': ['motion'], 'b': ['appearance', 'motion']}
    """
    program, returned = jax.make_jaxpr(function, return_shape=True)(params, shapes)
    own = [frozenset[str]()] * len(jax.tree.leaves(params))
    own += [frozenset([name]) for name, shape in shapes._asdict().items() if shape is not None]
    # A dict comes back in the order of its names, as its leaves do.
    return dict(zip(returned, _flow(program.jaxpr, own), strict=True))


def _flow(program: Any, reads: Sequence[Names]) -> list[Names]:
    """What each result of a program is computed from, given what its arguments are."""
    known: dict[Any, Names] = dict(zip(program.invars, reads, strict=True))

    def of(variable: Any) -> Names:
        return frozenset() if isinstance(variable, core.Literal) else known.get(variable, frozenset())

    for equation in program.eqns:
        each = [of(variable) for variable in equation.invars]
        within = _called(equation)
        results = [frozenset[str]().union(*each)] * len(equation.outvars) if within is None else _flow(within, each)
        known.update(zip(equation.outvars, results, strict=True))
    return [of(variable) for variable in program.outvars]


def _called(equation: Any) -> Any:
    """The program that an equation calls once with its own arguments, as that of a jit does."""
    within = [getattr(value, "jaxpr", value) for value in equation.params.values()]
    within = [value for value in within if isinstance(value, core.Jaxpr)]
    if len(within) != 1 or equation.primitive.name in LOOPS:
        return None
    fits = len(within[0].invars) == len(equation.invars) and len(within[0].outvars) == len(equation.outvars)
    return within[0] if fits else None
