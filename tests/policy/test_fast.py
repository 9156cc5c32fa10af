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


def test_a_finer_scale_comes_closer():
    coarse, fine = (FastTokenizer.fit(smooth(100), vocab=64, scale=s) for s in (5.0, 40.0))
    off = [np.abs(t.decode(t.encode(noise(50))) - noise(50)).mean() for t in (coarse, fine)]
    assert fine.error_bound < coarse.error_bound and off[1] < off[0] / 4


@pytest.mark.parametrize("horizon", [1, 2, 7, 16, 50])
def test_the_bound_is_reached_where_every_coefficient_lies_between_two_numbers(horizon):
    t = FastTokenizer.fit(smooth(100, horizon=horizon), vocab=64)
    waves = dct(np.eye(horizon), axis=0, norm="ortho")  # [frequency, step]
    signs = np.where(waves < 0, -1, 1)  # [:, n]: those which all add up at step n
    spectrum = np.repeat(0.499 / t.scale * signs.T[:, :, None], A, 2)
    worst = dct(spectrum, type=3, axis=1, norm="ortho").astype(np.float32)  # DCT-III inverts DCT-II
    off = t.decode(t.encode(worst)) - worst
    length = np.linalg.norm(off, axis=1)
    assert (length > 0.99 * t.error_bound).all() and (length <= t.error_bound + 1e-5).all()
    assert 0.89 * t.error_bound < np.abs(off).max() <= t.error_bound + 1e-5


def test_what_comes_back_has_whole_numbers_as_long_as_itself_for_a_spectrum(tokenizer):
    """Parseval: the transform keeps lengths, which the bound rests on."""
    back = tokenizer.decode(tokenizer.encode(noise(50))).astype(np.float64)
    numbers = dct(back, axis=1, norm="ortho") * tokenizer.scale
    assert np.abs(numbers - np.rint(numbers)).max() < 1e-4
    lengths = np.linalg.norm(np.rint(numbers) / tokenizer.scale, axis=1)
    assert np.allclose(np.linalg.norm(back, axis=1), lengths, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_coded_once_is_coded_without_loss(tokenizer, seed):
    wide = np.random.default_rng(seed).uniform(-1, 1, (50, H, A)) * (LIMIT - tokenizer.error_bound)
    for chunks in (smooth(50, seed), noise(50, seed), wide.astype(np.float32), EXTREME):
        once = tokenizer.decode(tokenizer.encode(chunks))
        assert np.array_equal(tokenizer.decode(tokenizer.encode(once)), once)


def test_the_same_chunks_give_the_same_tokens(tokenizer, tmp_path):
    """A resumed training makes its tokenizer again and goes on with the weights it had."""
    files = []
    for name, each in (("a", tokenizer), ("b", FastTokenizer.fit(smooth(400), vocab=512))):
        (tmp_path / name).mkdir()
        each.save(tmp_path / name)
        files.append((tmp_path / name / TOKENS).read_bytes())
    assert files[0] == files[1]


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
    for wrong in (-1, tokenizer.size, 2**40):
        assert np.array_equal(tokenizer.decode([[wrong, 5, wrong, 7]]), tokenizer.decode([[5, 7]]))


def test_ids_go_on_where_a_chunk_would_end_and_nothing_of_them_counts(tokenizer):
    ids = tokenizer.encode(noise(3))
    longer = tokenizer.decode([row + [0, 9, 300] for row in ids])
    assert np.array_equal(longer, tokenizer.decode(ids))


def test_strictly_only_whole_chunks_decode(tokenizer):
    ids = tokenizer.encode(noise(1))[0]
    assert np.array_equal(tokenizer.decode([ids], strict=True), tokenizer.decode([ids]))
    for wrong in ([], ids[:-1], [*ids, 0], [*ids, tokenizer.size], [-1, *ids]):
        with pytest.raises(ValueError, match=f"0 to {tokenizer.size - 1} that make {H * A}"):
            tokenizer.decode([wrong], strict=True)


def test_no_chunks_are_no_tokens(tokenizer):
    none = np.zeros((0, H, A), np.float32)
    assert tokenizer.encode(none) == [] and tokenizer.decode([]).shape == none.shape


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


def test_whoever_reads_while_it_is_saved_again_has_the_whole_earlier_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    earlier = (tmp_path / TOKENS).read_text()
    with (tmp_path / TOKENS).open() as held:
        FastTokenizer.fit(noise(50), vocab=300, scale=5.0).save(tmp_path)
        assert held.read() == earlier != (tmp_path / TOKENS).read_text()
    assert [file.name for file in tmp_path.iterdir()] == [TOKENS]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"horizon": 1, "dim": 1, "scale": 1, "bpe": 3}']
)
def test_a_damaged_file_is_one_clear_error(tokenizer, tmp_path, damage):
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / TOKENS).read_text())["horizon"] == H
    (tmp_path / TOKENS).write_text(damage)
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        FastTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("horizon", H + 1, "letters"),
        ("horizon", 16.5, "whole"),
        ("dim", 0, "whole"),
        ("scale", 0, "scale"),
        ("scale", -10.0, "scale"),
        ("scale", 20.0, "letters"),
    ],
)
def test_a_file_whose_letters_would_mean_other_numbers_is_refused(
    tokenizer, tmp_path, key, value, told
):
    tokenizer.save(tmp_path)
    raw = json.loads((tmp_path / TOKENS).read_text())
    (tmp_path / TOKENS).write_text(json.dumps(raw | {key: value}))
    with pytest.raises(CheckpointError, match=told):
        FastTokenizer.load(tmp_path)


def test_the_tokenizer_of_something_else_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    raw = json.loads((tmp_path / TOKENS).read_text())
    vocab = raw["bpe"]["model"]["vocab"]
    last = max(vocab, key=vocab.get)
    words, gap = {"a": 0, "b": 1}, vocab | {last: len(vocab) + 7}
    merges = raw["bpe"]["model"]["merges"]
    for other, these, told in (
        (words, [], "letters"),
        (vocab, merges[:-1], "merges"),
        (vocab | {"word": len(vocab)}, merges, "merges"),
        (gap, merges, "ids"),
    ):
        raw["bpe"]["model"] = {"vocab": other, "merges": these}
        (tmp_path / TOKENS).write_text(json.dumps(raw))
        with pytest.raises(CheckpointError, match=told):
            FastTokenizer.load(tmp_path)


def test_wrong_shapes_and_scales_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"expected \[B, 16, 3\], got \[2, 15, 3\]"):
        tokenizer.encode(np.zeros((2, 15, 3), np.float32))
    for shape in ((0, H, A), (3, 0, A), (3, H, 0), (H, A)):
        with pytest.raises(ValueError, match="M, H, A >= 1"):
            FastTokenizer.fit(np.zeros(shape, np.float32))
    for scale in (0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale"):
            FastTokenizer.fit(smooth(3), scale=scale)
    with pytest.raises(ValueError, match="too fine"):
        FastTokenizer.fit(smooth(3), scale=1e6)
