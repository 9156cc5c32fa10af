"""FAST: action chunks as few discrete tokens (arXiv 2501.09747).

A normalised chunk goes through an orthonormal cosine transform along time; its coefficients are
scaled, rounded and written down low frequencies first, all dims of a frequency in a row; byte-pair
encoding, trained on the user's own chunks, then names frequent runs of numbers by one token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.fft import dct, idct
from tokenizers import Tokenizer, models, trainers

from robostack.policy.checkpoint import TOKENS, CheckpointError

LIMIT = 3.0  # normalised actions beyond it are cut off: an outlier must not end a long training
FIRST = 0x4E00  # the character of the smallest coefficient: a block of 20,000 printable letters


class FastTokenizer:
    """Chunks f32[B, H, A], normalised, to lists of ids below `size` and back.

    What comes back of a chunk within +-LIMIT is off by at most `error_bound`: each of the H
    coefficients of a dim by at most 1 / (2 scale), hence the whole dim, in the Euclidean norm over
    time, by sqrt(H) / (2 scale), because the transform is orthonormal. That is tight; a single
    value is off by no more than that either, and at worst by 0.9 of it or more. What came back is
    coded again without any loss, if it lies within +-LIMIT itself.
    """

    def __init__(self, horizon: int, dim: int, scale: float, bpe: Tokenizer):
        self.horizon, self.dim, self.scale, self._bpe = horizon, dim, scale, bpe
        self.size = bpe.get_vocab_size()
        self._most = largest(horizon, scale)

    @classmethod
    def fit(cls, chunks: np.ndarray, vocab: int = 1024, scale: float = 10.0) -> FastTokenizer:
        """Learn the runs of f32[M, H, A]; the same chunks give the same tokens.

        There are `vocab` ids, fewer if the chunks have no more runs, and at least one for every
        number that may occur (2 sqrt(H) LIMIT scale of them), so that any chunk can be encoded.
        Raises ValueError for a chunk that is not finite.
        """
        if chunks.ndim != 3 or 0 in chunks.shape:
            raise ValueError(
                f"chunks: expected f32[M, H, A] with M, H, A >= 1, got {list(chunks.shape)}"
            )
        _, horizon, dim = chunks.shape
        most = largest(horizon, scale)
        letters = _alphabet(most)
        bpe = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=max(vocab, len(letters)),
            initial_alphabet=letters,
            max_token_length=horizon * dim,
            show_progress=False,
        )
        words = _words(chunks, scale, most)
        bpe.train_from_iterator(words, trainer)
        return cls(horizon, dim, scale, bpe)

    @property
    def error_bound(self) -> float:
        return math.sqrt(self.horizon) / (2 * self.scale)

    def encode(self, chunks: np.ndarray) -> list[list[int]]:
        """Any finite chunk can be encoded; values beyond +-LIMIT are taken for LIMIT."""
        if chunks.shape[1:] != (self.horizon, self.dim):
            raise ValueError(
                f"chunks: expected [B, {self.horizon}, {self.dim}], got {list(chunks.shape)}"
            )
        words = _words(chunks, self.scale, self._most)
        return [done.ids for done in self._bpe.encode_batch(words)]

    def decode(self, tokens: Sequence[Sequence[int]], strict: bool = False) -> np.ndarray:
        """f32[B, H, A] of any ids, since a network may say anything: an id that there is not counts
        for nothing, coefficients left out are 0, those beyond the end of a chunk are dropped.

        `strict` raises ValueError for each of these.
        """
        numbers = np.zeros((len(tokens), self.horizon * self.dim), np.float64)
        for row, ids in zip(numbers, tokens):
            known = [int(i) for i in ids if 0 <= i < self.size]
            letters = "".join(map(self._bpe.id_to_token, known))
            if strict and (len(known), len(letters)) != (len(ids), len(row)):
                raise ValueError(
                    f"tokens: expected ids from 0 to {self.size - 1} that make {len(row)} numbers, "
                    f"got {len(ids) - len(known)} other ids and {len(letters)} numbers"
                )
            found = [ord(letter) - FIRST - self._most for letter in letters[: len(row)]]
            row[: len(found)] = found
        spectrum = numbers.reshape(-1, self.horizon, self.dim) / self.scale
        return idct(spectrum, axis=1, norm="ortho").astype(np.float32)

    def save(self, folder: str | Path) -> None:
        about = {"horizon": self.horizon, "dim": self.dim, "scale": self.scale}
        content = json.dumps(about | {"bpe": json.loads(self._bpe.to_str())})
        partial = Path(folder) / f".{TOKENS}"
        partial.write_text(content)
        partial.replace(Path(folder) / TOKENS)

    @classmethod
    def load(cls, folder: str | Path) -> FastTokenizer:
        """Raises CheckpointError for a file that is absent, damaged or of something else."""
        file = Path(folder) / TOKENS
        try:
            raw = json.loads(file.read_text())
            horizon, dim, scale = raw["horizon"], raw["dim"], raw["scale"]
            if not all(type(n) is int and n >= 1 for n in (horizon, dim)):
                raise ValueError(f"expected whole horizon and dim >= 1, got {horizon} and {dim}")
            model = raw["bpe"]["model"]  # the rest could only change what is encoded
            vocab, merges = model["vocab"], [(left, right) for left, right in model["merges"]]
            letters = set(_alphabet(largest(horizon, scale)))
            if {token for token in vocab if len(token) == 1} != letters:
                raise ValueError(f"its letters are not those of {horizon} steps at scale {scale}")
            if set(vocab) != letters | {left + right for left, right in merges}:
                raise ValueError("its merges do not make its tokens")
            if set(vocab.values()) != set(range(len(vocab))):
                raise ValueError(f"expected ids from 0 to {len(vocab) - 1}, each of one token")
            return cls(horizon, dim, float(scale), Tokenizer(models.BPE(vocab, merges)))
        except Exception as error:  # the library raises bare Exceptions
            raise CheckpointError(f"{file} holds no tokenizer of actions: {error}") from None


def largest(horizon: int, scale: float) -> int:
    """Of all coefficients' sizes: H values of LIMIT have sqrt(H) LIMIT as their first one.

    Raises ValueError where that makes more numbers than there are letters.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a finite number above 0, got {scale}")
    most = math.ceil(LIMIT * math.sqrt(horizon) * scale)
    if most > 10_000:
        raise ValueError(f"scale={scale}: too fine for {horizon} steps; expected a smaller one")
    return most


def _alphabet(most: int) -> list[str]:
    """The letter of every number from -most to most."""
    return [chr(FIRST + i) for i in range(2 * most + 1)]


def _words(chunks: np.ndarray, scale: float, most: int) -> list[str]:
    if not np.isfinite(chunks).all():
        raise ValueError("chunks: expected finite actions")
    spectrum = dct(np.clip(chunks, -LIMIT, LIMIT).astype(np.float64), axis=1, norm="ortho")
    numbers = np.rint(spectrum * scale).astype(np.int64)
    codes = (numbers + most + FIRST).astype("<u4").reshape(len(chunks), math.prod(chunks.shape[1:]))
    return [row.tobytes().decode("utf-32-le") for row in codes]
