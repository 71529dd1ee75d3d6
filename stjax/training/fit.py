"""One training loop: any network in a form that can be trained, any series of labelled clips, checkpoints, resume.

Everything follows from the settings' seed and the clips: a run that was killed and resumed ends with the same
parameters as one that was not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.training import checkpoint
from stjax.training.normalisation import Trainable
from stjax.types import Clip, Params, Scalar


class Labelled(NamedTuple):
    """A batch of clips and their classes; `labels` may hold more, for auxiliary heads: name -> (batch,) integers."""

    clip: Clip
    labels: Mapping[str, Array]


class Head(NamedTuple):
    """An auxiliary classifier that reads the spatial mean of one endpoint, and is thrown away after training."""

    endpoint: str
    label: str
    classes: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers of one run.

    Args:
      steps: batches to train on.
      rate: of AdamW at its height; a linear start over `warmup` steps, then half a cosine to 0.
      weight_decay: of kernels; biases have none.
      smoothing: of labels, in 0..1.
      auxiliary, auxiliary_weight: further classifiers, and the weight of their summed loss.
      adversary: largest Euclidean length of the change to (appearance, motion) that is trained against, grey levels.
      seed: of the parameters' start.
      every: steps between two checkpoints.
    """

    steps: int
    rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    smoothing: float = 0.0
    auxiliary: tuple[Head, ...] = ()
    auxiliary_weight: float = 0.3
    adversary: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    every: int = 200


class TrainingState(NamedTuple):
    """What the next step needs."""

    step: Array
    params: Params
    moments: Any
    heads: dict[str, dict[str, Array]]
    optimiser: Any


class TrainingInfo(NamedTuple):
    """What one may look at: loss of the classes (without the auxiliary part) and share of right answers."""

    loss: Scalar
    accuracy: Scalar


def optimiser(settings: Settings) -> optax.GradientTransformation:
    """AdamW with a warm start and a cosine end. Loshchilov & Hutter, Decoupled weight decay, ICLR 2019."""
    warmup = min(settings.warmup, settings.steps // 2)
    rate = optax.schedules.warmup_cosine_decay_schedule(0.0, settings.rate, warmup, settings.steps)
    return optax.adamw(
        rate, weight_decay=settings.weight_decay, mask=lambda tree: jax.tree.map(lambda a: a.ndim > 1, tree)
    )


def start_training(form: Trainable, settings: Settings, clip: Clip, params: Params | None = None) -> TrainingState:
    """The state before the first step, from given parameters or random ones; of `clip` only the shapes matter."""
    key, heads_key = jax.random.split(jax.random.key(settings.seed))
    drawn, moments = form.initial(key, clip)
    params = drawn if params is None else params
    _, activations, _ = jax.eval_shape(form.train, params, moments, clip)
    heads = {}
    for number, head in enumerate(settings.auxiliary):
        width = activations[head.endpoint].shape[-1]
        kernel = jax.random.normal(jax.random.fold_in(heads_key, number), (width, head.classes)) / jnp.sqrt(width)
        heads[_name(head)] = {"kernel": kernel, "bias": jnp.zeros(head.classes)}
    trained = {"network": params, "heads": heads}
    return TrainingState(jnp.zeros((), jnp.int32), params, moments, heads, optimiser(settings).init(trained))


def _name(head: Head) -> str:
    return f"{head.label} from {head.endpoint}"


def cross_entropy(scores: Array, labels: Array, smoothing: float = 0.0) -> Scalar:
    """Mean over a batch of -sum_c q_c log softmax(scores)_c, q = (1 - smoothing) one-hot + smoothing / C."""
    wanted = optax.smooth_labels(jax.nn.one_hot(labels, scores.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(scores, wanted).mean()


def degrade(form: Trainable, settings: Settings, state: TrainingState, batch: Labelled) -> Clip:
    """The batch's clips, each moved one step along the gradient of its own loss.

        x <- x + u e g / |g|,   g = dL/dx,   u uniform in 0..1

    for each stream, with e its length in `settings.adversary`, u drawn anew for each clip. What maximises a unit
    of a network trained against this looks more like what the unit stands for.

    Goodfellow, Shlens & Szegedy, ICLR 2015 (one step; here in L2); Santurkar et al., Image synthesis with a single
    robust classifier, NeurIPS 2019.
    """

    def loss(clip: Clip) -> Scalar:
        return cross_entropy(form.train(state.params, state.moments, clip)[0], batch.labels["class"])

    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    strength = jax.random.uniform(key, batch.labels["class"].shape)

    def moved(x: Array, g: Array, length: float) -> Array:
        norm = jnp.sqrt(jnp.sum(g * g, axis=tuple(range(1, g.ndim)))) + jnp.finfo(g.dtype).tiny
        return x + (length * strength / norm).reshape(-1, *(1,) * (g.ndim - 1)) * g

    return Clip(*map(moved, batch.clip, jax.grad(loss)(batch.clip), settings.adversary))


@partial(jit, static_argnums=(0, 1), donate_argnums=2)
def step_training(
    form: Trainable, settings: Settings, state: TrainingState, batch: Labelled
) -> tuple[TrainingState, TrainingInfo]:
    """One batch, one step. `state` is given up to it."""
    clip = degrade(form, settings, state, batch) if any(settings.adversary) else batch.clip

    def objective(trained: Any) -> tuple[Scalar, tuple[TrainingInfo, Any]]:
        scores, activations, moments = form.train(trained["network"], state.moments, clip)
        label = batch.labels["class"]
        loss = cross_entropy(scores, label, settings.smoothing)
        total = loss
        for head in settings.auxiliary:
            weights, a = trained["heads"][_name(head)], jax.nn.relu(activations[head.endpoint])
            guess = a.mean((-4, -3, -2)) @ weights["kernel"]
            guess += jnp.broadcast_to(weights["bias"], guess.shape)
            total += settings.auxiliary_weight * cross_entropy(guess, batch.labels[head.label])
        return total, (TrainingInfo(loss, (scores.argmax(-1) == label).mean()), moments)

    trained = {"network": state.params, "heads": state.heads}
    gradient, (info, moments) = jax.grad(objective, has_aux=True)(trained)
    update, moved = optimiser(settings).update(gradient, state.optimiser, trained)
    stepped: Any = optax.apply_updates(trained, update)
    return TrainingState(state.step + 1, stepped["network"], moments, stepped["heads"], moved), info


def fit(
    form: Trainable,
    settings: Settings,
    clips: Callable[[int], Iterator[Labelled]],
    *,
    folder: Path | None = None,
    data: Mapping[str, Any] | None = None,
    params: Params | None = None,
    console: Console | None = None,
) -> TrainingState:
    """Trains, or goes on training.

    Args:
      form: what is trained, see `normalisation`.
      settings: of the run.
      clips: step -> an iterator over the batches from that step on, the same at each call.
      folder: of the checkpoint; None keeps nothing. If it holds an unfinished run, that run goes on.
      data: a description of the clips in plain values; a resume with another one is refused.
      params: to start from, instead of random ones.
      console: for the progress bar; None for none.
    Returns:
      The last state; `form.fold(state.params, state.moments)` are the network's parameters.
    Raises:
      UsageError: a folder that cannot be written or belongs to other settings; a loss that is not finite.
    """
    described: dict[str, Any] = {
        "settings": _plain(settings),
        "network": _plain(form.network),
        "data": dict(data or {}),
    }
    described["form"] = type(form).__name__
    state = None
    first = next(clips(0))
    if folder is not None:
        checkpoint.prepare_folder(folder)
        like = jax.eval_shape(lambda clip: start_training(form, settings, clip), first.clip)
        state = checkpoint.load(folder, like, described)
    if state is None:
        # In jit, a random start that is not used costs nothing.
        state = jax.jit(start_training, static_argnums=(0, 1))(form, settings, first.clip, params)
    begun = int(state.step)

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    columns += (TextColumn("{task.fields[info]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None) as bar:
        task = bar.add_task("training", total=settings.steps, completed=begun, info="")
        loss = accuracy = 0.0
        for number, batch in zip(range(begun + 1, settings.steps + 1), clips(begun), strict=False):
            state, info = step_training(form, settings, state, batch)
            # A running mean over some twenty batches: one alone says little.
            share = max(0.05, 1 / (number - begun))
            loss, accuracy = (
                loss + share * (float(info.loss) - loss),
                accuracy + share * (float(info.accuracy) - accuracy),
            )
            if not jnp.isfinite(info.loss):
                raise UsageError(
                    f"the loss must stay finite: it is {float(info.loss)} at step {number}; lower the rate"
                )
            bar.update(task, completed=number, info=f"loss {loss:.3f}, accuracy {accuracy:.1%}")
            if folder is not None and (number % settings.every == 0 or number == settings.steps):
                checkpoint.save(folder, state, described)
    if int(state.step) < settings.steps:
        raise UsageError(f"there must be clips for {settings.steps} steps: they ended at step {int(state.step)}")
    return state


def _plain(value: Any) -> dict[str, Any]:
    """A frozen dataclass in words that survive JSON."""
    fields = [f.name for f in dataclasses.fields(value) if f.name not in ("parent", "name")]
    return {name: v if isinstance(v := getattr(value, name), (int, float)) else str(v) for name in fields}
