"""How well a network tells classes apart, and what kind of mistakes it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jax import Array

from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.training.fit import Labelled
from stjax.types import Clip, Network, Params


class Answers(NamedTuple):
    """True and predicted class of each clip, (clips,) integers."""

    truth: np.ndarray
    predicted: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return self.truth == self.predicted


@partial(jit, static_argnums=0)
def predict(network: Network, params: Params, clip: Clip) -> Array:
    """The class of the highest score."""
    return network.apply({"params": params}, clip)[0].argmax(-1)


def evaluate(network: Network, params: Params, batches: Iterable[Labelled]) -> Answers:
    """Runs a network over labelled clips.

    Raises:
      UsageError: there is no clip.
    """
    pairs = [(np.asarray(b.labels["class"]), np.asarray(predict(network, params, b.clip))) for b in batches]
    if not pairs:
        raise UsageError("a network must be evaluated on at least one clip: none was given")
    return Answers(*(np.concatenate(column) for column in zip(*pairs, strict=True)))


def per_class(answers: Answers, num_classes: int) -> np.ndarray:
    """Accuracy of each class, NaN for one without clips.

    >>> per_class(Answers(np.array([0, 0, 1]), np.array([0, 1, 1])), 3).tolist()
    [0.5, 1.0, nan]
    """
    counts = np.bincount(answers.truth, minlength=num_classes)
    right = np.bincount(answers.truth[answers.right], minlength=num_classes)
    return np.divide(right, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def confusion(answers: Answers, kinds: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Share of clips whose answer is wrong in each kind: in shape, in direction, ...

    An answer may be wrong in several kinds. A kind that does not apply ("") to one of the two classes is right.

    Args:
      answers: of `evaluate`.
      kinds: kind -> its value for each class.

    >>> kinds = {"shape": ("disc", "disc", "star"), "direction": ("left", "right", "")}
    >>> confusion(Answers(np.array([0, 0, 0, 0]), np.array([0, 1, 2, 2])), kinds)
    {'shape': 0.5, 'direction': 0.25}
    """
    shares = {}
    for kind, values in kinds.items():
        true, said = (np.asarray(values)[labels] for labels in answers)
        shares[kind] = float(((true != said) & (true != "") & (said != "")).mean())
    return shares
