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
    time, by sqrt(H) / (2 scale), because the transform is orthonormal; and no single value by more.
    """

    def __init__(self, horizon: int, dim: int, scale: float, bpe: Tokenizer):
        self.horizon, self.dim, self.scale, self._bpe = horizon, dim, scale, bpe
        self.size = bpe.get_vocab_size()
        self._most = largest(horizon, scale)

    @classmethod
    def fit(cls, chunks: np.ndarray, vocab: int = 1024, scale: float = 10.0) -> FastTokenizer:
        """Learn the runs of f32[M, H, A]. Raises ValueError where `vocab` is smaller than the
        number of coefficients that may occur, or a chunk is not finite."""
        if chunks.ndim != 3 or len(chunks) == 0:
            raise ValueError(f"chunks: expected f32[M, H, A] with M >= 1, got {list(chunks.shape)}")
        if not scale > 0:
            raise ValueError(f"scale: expected a number above 0, got {scale}")
        _, horizon, dim = chunks.shape
        most = largest(horizon, scale)
        letters = [chr(FIRST + i) for i in range(2 * most + 1)]
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

    def decode(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """f32[B, H, A] of any ids: what a network has left out is 0, what it says beyond the end of
        a chunk is dropped. Raises ValueError for an id that does not exist."""
        numbers = np.zeros((len(tokens), self.horizon * self.dim), np.float64)
        for row, ids in zip(numbers, tokens):
            parts = [self._bpe.id_to_token(int(i)) if i >= 0 else None for i in ids]
            if None in parts:
                raise ValueError(f"token {ids[parts.index(None)]}: expected 0 to {self.size - 1}")
            found = [ord(letter) - FIRST - self._most for letter in "".join(parts)][: len(row)]
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
            bpe = Tokenizer.from_str(json.dumps(raw["bpe"]))
            return cls(int(raw["horizon"]), int(raw["dim"]), float(raw["scale"]), bpe)
        except Exception as error:  # the library raises bare Exceptions
            raise CheckpointError(f"{file} holds no tokenizer of actions: {error}") from None


def largest(horizon: int, scale: float) -> int:
    """Of all coefficients' sizes: H values of LIMIT have sqrt(H) LIMIT as their first one."""
    most = math.ceil(LIMIT * math.sqrt(horizon) * scale)
    if most > 10_000:
        raise ValueError(f"scale={scale}: too fine for {horizon} steps; expected a smaller one")
    return most


def _words(chunks: np.ndarray, scale: float, most: int) -> list[str]:
    if not np.isfinite(chunks).all():
        raise ValueError("chunks: expected finite actions")
    spectrum = dct(np.clip(chunks, -LIMIT, LIMIT).astype(np.float64), axis=1, norm="ortho")
    numbers = np.rint(spectrum * scale).astype(np.int64).reshape(len(chunks), -1)
    codes = (numbers + most + FIRST).astype("<u4")
    return [row.tobytes().decode("utf-32-le") for row in codes]
