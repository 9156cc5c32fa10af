"""Networks that choose among a policy's chunks and nudge them."""

import numpy as np
import pytest
import torch
from fakes import SPEC, LineEnv, tiny_vla

from robostack.policy.checkpoint import EDITS, CheckpointError
from robostack.policy.chunking import ChunkRunner
from robostack.policy.edits import EditConfig, EditedRunner, Edits
from robostack.policy.vla import VLA
from robostack.rollout import rollout

CONFIG = EditConfig(execute=2, proposals=3, reach=0.25, critics=3, width=8)


@pytest.fixture
def edits(vla):
    torch.manual_seed(0)
    return Edits(CONFIG, SPEC, 2 * 16)


@pytest.fixture
def given():
    """Features and states, and proposals, of five observations."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.randn(5, 35, generator=generator)
    return seen, 1.6 * torch.rand(5, 3, 2, 3, generator=generator) - 0.8


def taught(edits):
    """With opinions of its own."""
    with torch.no_grad():
        torch.nn.init.normal_(edits.critics.weights[-1])
        torch.nn.init.normal_(edits.actor[-1].weight)
    return edits


def test_before_it_learned_anything_the_first_proposal_is_executed(edits, given):
    seen, proposals = given
    assert torch.equal(edits.best(seen, proposals), proposals[:, 0])


def test_untaught_edits_act_as_the_policy_does(vla, edits):
    plain = ChunkRunner(vla, 2, 3, 0.0)
    first = rollout(LineEnv(2), EditedRunner(vla, edits, 3, 0.0), 0)
    plain.reset(0)
    proposed = plain.propose(first.observation(0), CONFIG.proposals)[0, :2]
    assert np.allclose(first.actions, proposed, atol=1e-6)


def test_a_chunk_is_nudged_as_a_whole_within_its_reach_but_for_the_fingers(edits, given):
    seen, proposals = given
    chunk = proposals[:, 0]
    moved = taught(edits).nudge(seen, chunk) - chunk
    assert torch.allclose(moved[:, 0], moved[:, 1], atol=1e-6)  # both actions alike
    assert (moved[:, :, 2] == 0).all()  # the gripper
    assert 0 < float(moved.abs().max()) <= 0.25 + 1e-6


def test_a_nudge_stays_within_the_bounds(edits):
    edge = torch.ones(4, 2, 3)
    moved = taught(edits).nudge(torch.randn(4, 35), edge)
    assert float(moved.max()) <= 1 and (moved != edge).any()


def test_of_proposals_and_nudged_ones_the_best_is_executed(edits, given):
    seen, proposals = given
    taught(edits)
    best = edits.best(seen, proposals)
    everything = [proposals[:, k] for k in range(3)]
    everything += [edits.nudge(seen, chunk) for chunk in everything]
    value = torch.stack([edits.judge(seen, chunk).mean(0) for chunk in everything])
    assert torch.allclose(edits.judge(seen, best).mean(0), value.amax(0), atol=1e-5)


def test_members_of_the_ensemble_are_perceptrons_of_their_own(edits, given):
    seen, proposals = given
    all_at_once = taught(edits).judge(seen, proposals[:, 0])
    assert all_at_once.shape == (3, 5) and all_at_once.std(0).min() > 0
    one_by_one = torch.cat(
        [edits.judge(seen[k : k + 1], proposals[k : k + 1, 0]) for k in range(5)], 1
    )
    assert torch.allclose(all_at_once, one_by_one, atol=1e-5)


def test_saved_and_loaded_they_say_the_same_and_the_policy_does_not_go_without(
    vla, edits, given, tmp_path
):
    taught(edits).save(tmp_path / EDITS)
    vla.save(tmp_path)
    again = Edits.load(tmp_path / EDITS, SPEC)
    assert torch.equal(again.best(*given), edits.best(*given)) and again.config == CONFIG
    with pytest.raises(CheckpointError, match="acts through the edits beside it"):
        VLA.load(tmp_path)
    assert VLA.load(tmp_path, edited=True).spec == SPEC


def test_a_damaged_folder_is_an_error_that_names_it(edits, tmp_path):
    edits.save(tmp_path)
    (tmp_path / "edits.safetensors").write_bytes(b"\0" * 10)
    with pytest.raises(CheckpointError, match="holds no edits for this robot"):
        Edits.load(tmp_path, SPEC)
    with pytest.raises(CheckpointError, match="holds no edits"):
        Edits.load(tmp_path / "nowhere", SPEC)


def test_the_features_are_of_what_is_seen(batch):
    vla = tiny_vla()
    with torch.no_grad():
        one = vla.features(vla.encode(batch), batch.state)
        batch.images = {n: 255 - i for n, i in batch.images.items()}
        other = vla.features(vla.encode(batch), batch.state)
    assert one.shape == (6, 32) and (one - other).abs().max() > 1e-4
