"""The action expert: what it may see, what time does to it, and that its fast path is the same."""

import pytest
import torch
import torch.nn.functional as F

from robostack.policy.backbone import Prefix
from robostack.policy.expert import ActionExpert, ExpertConfig, Look, rotary, rotate, time_embedding

LAYERS, KV, HEAD, SEEN, H = 2, 2, 8, 5, 6
KINDS = [
    ExpertConfig(width=32, heads=4, time=time, position=position)
    for time in ("additive", "adaptive")
    for position in ("learned", "rotary")
]
ROTARY = KINDS[3]  # of adaptive time


def make(config=KINDS[0], state=3, action=2, horizon=H):
    torch.manual_seed(0)
    expert = ActionExpert(config, state, action, horizon, LAYERS, KV, HEAD).eval()
    with torch.no_grad():  # adaptive layers begin as the identity, which would hide everything
        for parameter in expert.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return expert


def inputs(batch=2, action=2, padded=True, seed=1):
    g = torch.Generator().manual_seed(seed)
    keys, values = (
        [torch.randn(batch, KV, SEEN, HEAD, generator=g) for _ in range(LAYERS)] for _ in range(2)
    )
    mask = torch.ones(batch, SEEN, dtype=torch.bool)
    mask[0, 3:] = False
    end = torch.full((batch,), SEEN)
    prefix = Prefix(keys, values, mask if padded else None, end)
    state = torch.randn(batch, 3, generator=g)
    return prefix, state, torch.randn(batch, H, action, generator=g), torch.rand(batch, generator=g)


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("padded", [True, False])
def test_the_memory_gives_what_the_differentiable_path_gives(config, padded):
    expert, (prefix, state, x, time) = make(config), inputs(padded=padded)
    with torch.no_grad():
        memory = expert.memory(prefix)
        for step in range(3):  # what an earlier step left in the memory must not be seen
            other = x * (step + 1)
            assert torch.equal(
                expert(memory, state, other, time), expert(prefix, state, other, time)
            )


@pytest.mark.parametrize("config", KINDS)
def test_a_memory_copies_the_prefix_once_and_never_moves(config):
    expert, (prefix, state, x, time) = make(config), inputs()
    with torch.no_grad():
        memory = expert.memory(prefix)
        places = [k.data_ptr() for k in (*memory.keys, *memory.values)]
        before = [k[:, :, :SEEN].clone() for k in memory.keys]
        expert(memory, state, x, time)
    assert [k.data_ptr() for k in (*memory.keys, *memory.values)] == places
    assert all(torch.equal(a, k[:, :, :SEEN]) for a, k in zip(before, memory.keys))


@pytest.mark.parametrize("config", KINDS)
def test_padding_of_the_prefix_is_never_seen(config):
    expert, (prefix, state, x, time) = make(config), inputs()
    before = expert(prefix, state, x, time)
    prefix.keys[1][0, :, 3:] += 9
    prefix.values[1][0, :, 3:] -= 9
    assert torch.equal(expert(prefix, state, x, time), before)
    prefix.values[1][0, :, 2] += 9  # the control: what is no padding
    assert not torch.allclose(expert(prefix, state, x, time)[0], before[0], atol=1e-4)


@pytest.mark.parametrize("config", KINDS)
def test_every_action_sees_every_other_in_both_directions(config):
    expert, (prefix, state, x, time) = make(config), inputs()
    for changed, looked in ((0, H - 1), (H - 1, 0)):
        other = x.clone()
        other[:, changed] += 1
        apart = (expert(prefix, state, other, time) - expert(prefix, state, x, time)).abs()
        assert (apart[:, looked].amax(-1) > 1e-6).all()


@pytest.mark.parametrize("config", KINDS)
def test_one_time_for_all_is_that_time_for_each(config):
    expert, (prefix, state, x, time) = make(config), inputs()
    each = time[:, None].expand(2, H)
    assert torch.allclose(expert(prefix, state, x, time), expert(prefix, state, x, each), atol=1e-6)
    assert not torch.allclose(
        expert(prefix, state, x, time), expert(prefix, state, x, 1 - each), atol=1e-4
    )


@pytest.mark.parametrize("config", KINDS)
def test_grouped_queries_are_attention_with_repeated_keys(config):
    """Against attention as it is usually written, with every query head given its own copy."""
    expert, (prefix, _, _, _) = make(config), inputs()
    block, x = expert.blocks[0], torch.randn(2, H, 32)
    turn = tuple(z[:H] for z in rotary(1 + H, HEAD))
    q, k, v = block.qkv(x).unflatten(-1, (-1, HEAD)).transpose(1, 2).split((4, KV, KV), dim=1)
    k = torch.cat([prefix.keys[0], rotate(k, *turn)], 2).repeat_interleave(2, 1)
    v = torch.cat([prefix.values[0], v], 2).repeat_interleave(2, 1)
    mask = torch.cat([prefix.mask, torch.ones(2, H, dtype=torch.bool)], 1)[:, None, None]
    wanted = F.scaled_dot_product_attention(rotate(q, *turn), k, v, attn_mask=mask)
    wanted = block.out(wanted.transpose(1, 2).flatten(2))
    found = block._attend(x, (prefix.keys[0], prefix.values[0]), Look(turn, mask, False))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    cos, sin = rotary(20, HEAD)
    q, k = torch.randn(HEAD), torch.randn(HEAD)
    turned = rotate(q.expand(20, HEAD), cos, sin), rotate(k.expand(20, HEAD), cos, sin)
    assert torch.allclose(turned[0].norm(dim=1), q.norm().expand(20), atol=1e-5)
    products = turned[0] @ turned[1].T
    for distance in range(5):
        along = products.diagonal(distance)
        assert torch.allclose(along, along[:1].expand_as(along), atol=1e-4)
    assert torch.equal(turned[0][0], q)


def test_times_are_told_apart_and_named_alike_in_any_shape():
    time = torch.linspace(0, 1, 50)
    code = time_embedding(time, 32)
    assert code.shape == (50, 32) and code.abs().max() <= 1
    assert torch.cdist(code, code).add(torch.eye(50)).min() > 0.1
    assert torch.equal(time_embedding(time.reshape(10, 5), 32), code.reshape(10, 5, 32))


@pytest.mark.parametrize("config", [ROTARY])
def test_adaptive_layers_begin_as_the_identity(config):
    expert = ActionExpert(config, 3, 2, H, LAYERS, KV, HEAD)
    prefix, state, x, time = inputs()
    tokens, _ = expert._tokens(state, x, time)
    assert torch.allclose(
        expert(prefix, state, x, time), expert.action_out(expert.norm(tokens[:, 1:])), atol=1e-6
    )


def test_room_for_other_robots_changes_nothing_for_this_one():
    """Padded inputs are zeros and padded outputs are cut off: the spare weights cannot matter."""
    roomy = ExpertConfig(width=32, heads=4, state_dim=9, action_dim=12)
    expert, (prefix, state, x, time) = make(roomy), inputs()
    before = expert(prefix, state, x, time)
    assert before.shape == x.shape
    with torch.no_grad():
        expert.state_in.weight[:, 3:] += 9
        expert.action_in.weight[:, 2:] += 9
        expert.action_out.weight[2:] += 9
    assert torch.equal(expert(prefix, state, x, time), before)


@pytest.mark.parametrize("config", KINDS)
def test_actions_are_told_apart_by_their_place_in_the_chunk(config):
    expert, (prefix, state, x, time) = make(config), inputs()
    swapped = x.flip(1)
    apart = expert(prefix, state, swapped, time).flip(1) - expert(prefix, state, x, time)
    assert apart.abs().amax() > 1e-4


def test_sizes_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="expert.heads=3: expected a multiple of 2"):
        make(ExpertConfig(width=32, heads=3))
    with pytest.raises(ValueError, match="expert.action_dim=1: this robot has 2"):
        make(ExpertConfig(width=32, action_dim=1))


def test_layers_in_half_precision_take_and_give_full_precision():
    expert, (prefix, state, x, time) = make(), inputs()
    full = expert(prefix, state, x, time)
    expert.blocks.to(torch.bfloat16)
    with torch.no_grad():
        half = expert(expert.memory(prefix), state, x, time)
    assert half.dtype == torch.float32 and expert.action_out.weight.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.1
