"""Action tokens: what goes in comes out within the bound, whatever the chunk."""

import json

import numpy as np
import pytest
from scipy.fft import dct

from robostack.policy.checkpoint import TOKENS, CheckpointError
from robostack.policy.fast import LIMIT, FastTokenizer

H, A = 16, 3


def smooth(count, seed=0, horizon=H, dim=A):
    """Sines of random phase and amplitude, as arms move."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, horizon)[None, :, None]
    phase, pace, size = rng.uniform(0, 1, (3, count, 1, dim))
    return (size * np.sin(2 * np.pi * (pace * t + phase))).astype(np.float32)


def noise(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, H, A)).astype(np.float32)


EXTREME = np.stack([np.full((H, A), s * LIMIT, np.float32) for s in (-1, 0, 1)])
KINDS = {"smooth": smooth(50, 1), "noise": noise(50, 1), "extreme": EXTREME}


@pytest.fixture(scope="module")
def tokenizer():
    return FastTokenizer.fit(smooth(400), vocab=512)


@pytest.mark.parametrize("scale", [5.0, 10.0, 40.0])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_chunk_comes_back_within_the_bound(kind, scale):
    t = FastTokenizer.fit(smooth(100), vocab=64, scale=scale)
    off = t.decode(t.encode(KINDS[kind])) - KINDS[kind]
    bound = t.error_bound + 1e-5
    assert np.linalg.norm(off, axis=1).max() <= bound and np.abs(off).max() <= bound
    assert t.error_bound == pytest.approx(np.sqrt(H) / (2 * scale))


def test_the_bound_is_reached_where_every_coefficient_lies_between_two_numbers():
    t = FastTokenizer.fit(smooth(100), vocab=64)
    spectrum = np.full((1, H, A), 0.499 / t.scale)
    worst = dct(spectrum, type=3, axis=1, norm="ortho").astype(np.float32)  # DCT-III inverts DCT-II
    off = np.linalg.norm(t.decode(t.encode(worst)) - worst, axis=1)
    assert (off > 0.99 * t.error_bound).all()


def test_what_was_coded_once_is_coded_without_loss(tokenizer):
    for chunks in KINDS.values():
        once = tokenizer.decode(tokenizer.encode(chunks))
        assert np.array_equal(tokenizer.decode(tokenizer.encode(once)), once)


def test_smooth_chunks_need_few_tokens_and_noise_needs_many(tokenizer):
    lengths = {k: np.mean([len(r) for r in tokenizer.encode(c)]) for k, c in KINDS.items()}
    assert lengths["smooth"] < 0.5 * H * A < lengths["noise"] <= H * A


def test_values_beyond_the_limit_are_cut_off_and_do_no_other_harm(tokenizer):
    wild = noise(4)
    wild[0, 3, 1] = 1e6
    cut = np.clip(wild, -LIMIT, LIMIT)
    assert tokenizer.encode(wild) == tokenizer.encode(cut)
    wild[0, 3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        tokenizer.encode(wild)


def test_any_ids_decode(tokenizer):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, tokenizer.size, n).tolist() for n in (0, 1, 7, 500)]
    chunks = tokenizer.decode(rows)
    assert chunks.shape == (4, H, A) and np.isfinite(chunks).all() and not chunks[0].any()
    for wrong in (-1, tokenizer.size):
        with pytest.raises(ValueError, match=f"token {wrong}: expected 0 to {tokenizer.size - 1}"):
            tokenizer.decode([[0, wrong]])


def test_ids_stay_below_the_size_and_all_can_be_met(tokenizer):
    used = {i for chunks in KINDS.values() for row in tokenizer.encode(chunks) for i in row}
    assert max(used) < tokenizer.size <= 512 and len(used) > 50


def test_low_frequencies_come_first():
    """A chunk that does not move is all in its first coefficients; the rest is a run of zeros."""
    t = FastTokenizer.fit(np.concatenate([EXTREME] * 40), vocab=400)
    still = np.full((1, H, A), 0.5, np.float32)
    assert len(t.encode(still)[0]) < 12


def test_it_is_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = FastTokenizer.load(tmp_path)
    assert loaded.encode(KINDS["noise"]) == tokenizer.encode(KINDS["noise"])
    assert (loaded.horizon, loaded.dim, loaded.size) == (H, A, tokenizer.size)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"horizon": 1, "dim": 1, "scale": 1, "bpe": 3}']
)
def test_a_damaged_file_is_one_clear_error(tokenizer, tmp_path, damage):
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / TOKENS).read_text())["horizon"] == H
    (tmp_path / TOKENS).write_text(damage)
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        FastTokenizer.load(tmp_path)


def test_wrong_shapes_and_scales_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"expected \[B, 16, 3\], got \[2, 15, 3\]"):
        tokenizer.encode(np.zeros((2, 15, 3), np.float32))
    with pytest.raises(ValueError, match="M >= 1"):
        FastTokenizer.fit(np.zeros((0, H, A), np.float32))
    with pytest.raises(ValueError, match="scale"):
        FastTokenizer.fit(smooth(3), scale=0)
    with pytest.raises(ValueError, match="too fine"):
        FastTokenizer.fit(smooth(3), scale=1e6)
