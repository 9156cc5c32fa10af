"""The policy's two doors: what may and what may not change what comes out of them."""

from dataclasses import replace

import pytest
import torch
from fakes import LIFT, SPEC, STACK, make_episode

from robostack.data.chunks import Batch, ChunkData
from robostack.policy.backbone import SmallConfig
from robostack.policy.expert import ExpertConfig
from robostack.policy.vla import VLA, VLAConfig


@pytest.fixture
def noise(vla, batch):
    return vla.noise(len(batch), torch.Generator().manual_seed(3))


TIME = torch.linspace(0.1, 1, 6)


def test_shapes_and_that_every_sample_has_its_own_loss(vla, batch, noise):
    assert vla.sample(batch, noise).shape == (6, 4, 3)
    loss = vla.flow_loss(batch, noise, TIME)
    assert loss.shape == (6,) and len(set(loss.tolist())) == 6


def test_a_loss_does_not_depend_on_its_neighbours_in_the_batch(vla, batch, noise):
    together = vla.flow_loss(batch, noise, TIME)
    for i in range(len(batch)):
        one = slice(i, i + 1)
        rest = (x[one] for x in (batch.state, batch.tasks, batch.chunk, batch.valid))
        alone = vla.flow_loss(
            Batch({"top": batch.images["top"][one]}, *rest), noise[one], TIME[one]
        )
        assert torch.allclose(alone, together[one], atol=1e-5)


def test_reusing_an_encoding_changes_nothing(vla, batch, noise):
    prefix = vla.encode(batch)
    assert torch.equal(vla.flow_loss(batch, noise, TIME, prefix), vla.flow_loss(batch, noise, TIME))
    assert torch.equal(vla.sample(batch, noise, prefix=prefix), vla.sample(batch, noise))


def test_a_repeated_prefix_is_the_prefix_of_repeated_observations(vla, batch):
    noise, time = vla.noise(12, torch.Generator().manual_seed(1)), torch.linspace(0.1, 1, 12)
    repeated = batch.repeat(2)
    images = {"top": batch.images["top"].repeat_interleave(2, 0)}
    whole = replace(repeated, images=images)
    assert torch.allclose(
        vla.flow_loss(repeated, noise, time, vla.encode(batch).repeat(2)),
        vla.flow_loss(whole, noise, time),
        atol=1e-6,
    )


def test_only_steps_within_the_episode_enter_the_loss(vla, batch, noise):
    assert not batch.valid.all()
    same = vla.flow_loss(replace(batch, valid=torch.ones_like(batch.valid)), noise, TIME)
    loss = vla.flow_loss(batch, noise, TIME)
    full = batch.valid.all(1)
    assert torch.equal(loss[full], same[full]) and not torch.allclose(loss[~full], same[~full])


def with_tasks(batch, *tasks):
    """One observation under several instructions."""
    n = len(tasks)
    first = [0] * n
    images = {"top": batch.images["top"][first]}
    return Batch(images, batch.state[first], list(tasks), batch.chunk[first], batch.valid[first])


def test_a_short_instruction_beside_a_long_one_acts_as_it_does_alone(vla, batch, noise):
    noise = noise[:1].repeat(2, 1, 1)
    both = vla.sample(with_tasks(batch, "lift", STACK), noise)
    alone = vla.sample(with_tasks(batch, "lift"), noise[:1])
    assert torch.allclose(both[0], alone[0], atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_padding_cannot_be_seen(vla, batch, noise):
    pair, noise = with_tasks(batch, "lift", STACK), noise[:1].repeat(2, 1, 1)
    before = vla.sample(pair, noise)
    with torch.no_grad():
        embedding = vla.backbone.word_embedding.weight
        embedding[0] += 100 * torch.randn(16)  # what pads a short instruction
    assert torch.equal(vla.sample(pair, noise), before)
    with torch.no_grad():
        embedding[1:] += torch.randn(16)  # the control: words
    assert not torch.allclose(vla.sample(pair, noise), before, atol=1e-3)


@pytest.mark.parametrize("other", [STACK, "lift the green cube", "cube red the lift"])
def test_the_instruction_changes_the_action(vla, batch, noise, other):
    pair, noise = with_tasks(batch, LIFT, other), noise[:1].repeat(2, 1, 1)
    first, second = vla.sample(pair, noise)
    assert not torch.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("changed", ["image", "state", "noise"])
def test_what_is_seen_and_the_noise_change_the_action(vla, batch, noise, changed):
    before = vla.sample(batch, noise)
    if changed == "image":
        batch.images["top"] = 255 - batch.images["top"]
    elif changed == "state":
        batch.state = batch.state + 1
    after = vla.sample(batch, -noise if changed == "noise" else noise)
    assert ((before - after).abs().amax((1, 2)) > 1e-4).all()


@pytest.mark.parametrize("size", [(16, 16), (32, 16), (48, 64), (84, 84)])
def test_any_image_size_works_and_two_cameras_are_told_apart(size, vla):
    torch.manual_seed(0)
    spec = replace(SPEC, cameras={"top": size, "wrist": size})
    vla, rng = VLA(vla.config, spec).eval(), torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 2, *size, 3), dtype=torch.uint8, generator=rng)
    rest = torch.zeros(2, 3), [LIFT, LIFT], torch.zeros(2, 4, 3), torch.ones(2, 4).bool()
    noise = vla.noise(2, rng)
    first = vla.sample(Batch({"top": frames[0], "wrist": frames[1]}, *rest), noise)
    swapped = vla.sample(Batch({"top": frames[1], "wrist": frames[0]}, *rest), noise)
    assert first.shape == (2, 4, 3) and not torch.allclose(first, swapped, atol=1e-5)


def test_both_doors_speak_raw_units(vla, noise):
    """Scaling the actions of the data scales what is sampled and leaves the loss alone."""
    small = ChunkData(SPEC, 4, [make_episode(1, steps=6)])
    episode = small.episodes[0]
    large = ChunkData(SPEC, 4, [replace(episode, actions=10 * episode.actions)])
    samples, losses = [], []
    for data in (small, large):
        vla.normalize_action.fit(data.column("action")[data.rows()])
        batch = data.batch(data.rows())
        samples.append(vla.sample(batch, noise))
        losses.append(vla.flow_loss(batch, noise, TIME))
    assert torch.allclose(10 * samples[0], samples[1], rtol=1e-4, atol=1e-4)
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize(
    "size", [{"width": 0}, {"layers": 0}, {"heads": 0}, {"points": -1}], ids=lambda size: [*size][0]
)
def test_a_size_that_is_too_small_is_refused_by_name(size):
    with pytest.raises(ValueError, match="{}={}".format(*[*size.items()][0])):
        VLA(VLAConfig(small=SmallConfig(**size)), SPEC)
    with pytest.raises(ValueError, match="horizon"):
        VLAConfig(horizon=0)
    with pytest.raises(ValueError, match="expert.width"):
        VLAConfig(expert=ExpertConfig(width=15))


def test_a_width_that_the_heads_do_not_share_evenly_is_refused():
    with pytest.raises(ValueError, match="heads"):
        VLA(VLAConfig(small=SmallConfig(width=16, heads=3)), SPEC)
