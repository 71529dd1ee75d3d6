"""The training loop: it learns, resumes to the same end, refuses what does not fit; folding changes nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params, slim

from stjax import Clip, UsageError
from stjax.convert import store
from stjax.model import Model, Statistics
from stjax.training import checkpoint
from stjax.training.evaluation import evaluate
from stjax.training.fit import Head, Labelled, Settings, TrainingState, cross_entropy, degrade, fit
from stjax.training.normalisation import BatchNormalised, Moments, Unnormalised

NETWORK = slim(widths=((4,), (8,)), input_size=8, num_classes=4, dense=(8,))
FORM = BatchNormalised(network=NETWORK, momentum=0.8)
SETTINGS = Settings(steps=40, warmup=5, rate=2e-2, every=10, auxiliary=(Head("motion/conv2_1", "side", 2),))


def batch(number: int) -> Labelled:
    """Noise, brighter or darker, that drifts left or right: four classes."""
    rng = np.random.default_rng(number)
    label = np.arange(16) % 4
    bright, right = np.where(label % 2, 40.0, -40.0), np.where(label // 2, 20.0, -20.0)
    frame = rng.normal(0, 40, (16, 1, 8, 8, 3)) + bright[:, None, None, None, None]
    motion = rng.normal(0, 20, (16, 1, 3, 8, 8, 2))
    motion[..., 0] += right[:, None, None, None, None]
    labels = {"class": jnp.asarray(label), "side": jnp.asarray(label // 2)}
    return Labelled(Clip(jnp.asarray(frame, jnp.float32), jnp.asarray(motion, jnp.float32)), labels)


def clips(step: int) -> Iterator[Labelled]:
    return map(batch, itertools.count(step))


@pytest.fixture(scope="module")
def trained() -> TrainingState:
    return fit(FORM, SETTINGS, clips)


def same(a: TrainingState, b: TrainingState) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_small_network_learns(trained):
    answers = evaluate(NETWORK, FORM.fold(trained.params, trained.moments), [batch(n) for n in range(1000, 1005)])
    assert answers.right.mean() > 0.9
    assert not np.allclose(trained.heads["side from motion/conv2_1"]["kernel"], 0)


def test_a_run_follows_from_its_seed(trained):
    same(trained, fit(FORM, SETTINGS, clips))


def test_a_degraded_batch_is_near_and_harder(trained):
    settings = dataclasses.replace(SETTINGS, adversary=(200.0, 80.0))
    one = batch(1000)
    moved = degrade(FORM, settings, trained, one)
    for before, after, length in zip(one.clip, moved, settings.adversary, strict=True):
        distance = np.sqrt(np.square(np.asarray(after - before)).reshape(16, -1).sum(1))
        assert distance.max() <= length * 1.001
        assert len(np.unique(distance.round(3))) > 10
    before, after = (
        cross_entropy(FORM.train(trained.params, trained.moments, clip)[0], one.labels["class"])
        for clip in (one.clip, moved)
    )
    assert after > 1.5 * before


@pytest.mark.parametrize("died", [3, 17, 30])
def test_a_killed_run_resumes_and_ends_alike(trained, tmp_path, died):
    def dying(step: int) -> Iterator[Labelled]:
        for n, b in enumerate(clips(step)):
            if n == died:
                raise KeyboardInterrupt
            yield b

    with pytest.raises(KeyboardInterrupt):
        fit(FORM, SETTINGS, dying, folder=tmp_path)
    assert (tmp_path / checkpoint.FILE).exists() == (died >= 10)
    asked: list[int] = []
    same(trained, fit(FORM, SETTINGS, lambda step: asked.append(step) or clips(step), folder=tmp_path))
    assert asked[-1] == died // 10 * 10
    # Finished: nothing more is trained.
    same(trained, fit(FORM, SETTINGS, clips, folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


def test_a_resume_with_other_settings_is_refused(trained, tmp_path):
    fit(FORM, SETTINGS, clips, folder=tmp_path, data={"seed": 0})
    longer = dataclasses.replace(SETTINGS, steps=50)
    with pytest.raises(UsageError, match=r"resume with its own settings: .* settings\.steps 40, asked for 50$"):
        fit(FORM, longer, clips, folder=tmp_path, data={"seed": 0})
    with pytest.raises(UsageError, match=r"data\.seed 0, asked for 1$"):
        fit(FORM, SETTINGS, clips, folder=tmp_path, data={"seed": 1})
    with pytest.raises(UsageError, match=r"form BatchNormalised, asked for Unnormalised$"):
        fit(Unnormalised(network=NETWORK), SETTINGS, clips, folder=tmp_path, data={"seed": 0})


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / checkpoint.FILE).write_bytes(b"PK not an archive")
    with pytest.raises(UsageError, match="damaged"):
        fit(FORM, SETTINGS, clips, folder=tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"must be writable: .*file"):
        fit(FORM, SETTINGS, clips, folder=tmp_path / "file" / "below")


def test_clips_that_end_early_are_reported():
    with pytest.raises(UsageError, match="ended at step 2"):
        fit(FORM, SETTINGS, lambda step: itertools.islice(clips(step), 2))


def test_a_loss_that_is_not_finite_stops_the_run():
    def broken(step: int) -> Iterator[Labelled]:
        return (b._replace(clip=jax.tree.map(lambda a: a * jnp.nan, b.clip)) for b in clips(step))

    with pytest.raises(UsageError, match="finite"):
        fit(FORM, SETTINGS, broken)


def test_the_plain_form_goes_on_from_given_parameters(trained):
    form = Unnormalised(network=NETWORK)
    params = FORM.fold(trained.params, trained.moments)
    still = Settings(steps=2, rate=0.0, weight_decay=0.0)
    after = fit(form, still, clips, params=params)
    jax.tree.map(np.testing.assert_array_equal, form.fold(after.params, after.moments), params)


@pytest.mark.parametrize(("motion_head", "fusion"), [(False, "conv2d"), (True, "sum")])
def test_folding_away_normalisation_changes_no_endpoint(motion_head, fusion):
    network = slim(motion_head=motion_head, fusion=fusion)
    form, params, clip = BatchNormalised(network=network), draw_params(network), draw_clip(network, 3)
    scores, _, seen = form.forward(params, None, clip)
    # The batch's own moments, then others: what training forms compute, the folded network computes.
    other = Moments(*({n: m + 0.1 * jnp.abs(m).mean() for n, m in kept.items()} for kept in seen))
    fixed_scores, fixed, _ = form.forward(params, seen, clip)
    np.testing.assert_allclose(fixed_scores, scores, atol=1e-4)
    for moments in (seen, other):
        wanted_scores, wanted, _ = form.forward(params, moments, clip)
        found_scores, found = network.apply({"params": form.fold(params, moments)}, clip)
        np.testing.assert_allclose(found_scores, wanted_scores, atol=2e-4)
        assert found.keys() == wanted.keys() == set(network.layer_names)
        for layer in network.layer_names:
            np.testing.assert_allclose(found[layer], wanted[layer], atol=5e-4, err_msg=layer)
    for layer in form.layers:
        a = np.asarray(fixed[layer] - np.broadcast_to(_bias(params, layer), fixed[layer].shape))
        np.testing.assert_allclose(a.mean(tuple(range(a.ndim - 1))), 0, atol=1e-3)


def _bias(params: dict, layer: str) -> np.ndarray:
    stream, _, name = layer.rpartition("/")
    return (params[stream] if stream else params)[name]["bias"]


def test_a_form_without_parameters_to_fold_into_is_refused():
    with pytest.raises(UsageError, match="conv3d"):
        BatchNormalised(network=slim(fusion="conv3d"))


def test_float16_storage_keeps_the_answers(trained, tmp_path):
    params = FORM.fold(trained.params, trained.moments)
    model = Model(name="small", network=NETWORK, params=params, statistics=Statistics({}, ""))
    store.save(tmp_path / "small.safetensors", model, np.float16)
    loaded = store.load(tmp_path / "small.safetensors")
    heldout = [batch(n) for n in range(2000, 2010)]
    answers = [evaluate(NETWORK, p, heldout).predicted for p in (params, loaded.params)]
    assert (answers[0] == answers[1]).mean() >= 0.99
