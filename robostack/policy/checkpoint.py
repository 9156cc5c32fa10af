"""A policy on disk: a folder, here or on the Hugging Face hub.

policy.json           format, size, robot spec, and the instructions that it learned from; written
                      last, so that a folder without it is no policy
weights.safetensors   every weight but those of a pretrained backbone that were left as they were
backbone/             of a pretrained backbone: its configuration and tokenizer (JSON)
fast.json             the tokenizer of actions, if there is one
edits/                networks that choose among its chunks and edit them, if there are any

The format is (major, minor). A reader refuses another major than those it knows how to read; of a
larger minor it ignores the keys it does not know, which a writer may therefore only add where
ignoring them does no harm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import robostack
from robostack import config as configs
from robostack.types import RobotSpec

WEIGHTS, CARD, TOKENS = "weights.safetensors", "policy.json", "fast.json"
EDITS = "edits"  # folder beside them, of a policy that acts through `robostack.policy.edits`
FORMAT = (3, 0)
OLDEST = 2  # major; what it did not say yet is in `_renewed`


class CheckpointError(RuntimeError):
    """A policy folder that is missing, incomplete or of another shape."""


def policy_folder(path: str | Path) -> Path:
    """A policy folder, or the one inside a run folder."""
    path = Path(path)
    return path / "policy" if (path / "policy").is_dir() else path


def begin(folder: Path) -> None:
    """From here until `finish` the folder is no policy."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)


def finish(folder: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    card = {"format": list(FORMAT), "robostack": robostack.__version__, **card}
    partial = folder / f".{CARD}"
    partial.write_text(json.dumps(card, indent=1))
    partial.replace(folder / CARD)


@dataclasses.dataclass(frozen=True)
class Card:
    """What is said of a saved policy beside its weights."""

    config: Any
    spec: RobotSpec
    instructions: frozenset[str] | None  # that it learned from; None where that is not known


def read_card(folder: Path, kind: type) -> Card:
    """Of a saved policy, whose config is of dataclass `kind`."""
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} holds no policy (expected {CARD} and {WEIGHTS}); "
            "make one with `robostack train bc`"
        )
    try:
        card = json.loads((folder / CARD).read_text())
        major, minor = card.get("format", (1, 0))
        if not OLDEST <= major <= FORMAT[0]:
            raise ValueError(
                f"format {major}.{minor}, written by robostack {card.get('robostack', '0.1')}; "
                f"this version reads {OLDEST}.0 to {FORMAT[0]}.x: "
                + ("update robostack" if major > FORMAT[0] else "train the policy again")
            )
        raw = _renewed(card["config"], major)
        if (major, minor) > FORMAT:
            raw, unknown = _known(kind, raw)
            if unknown:
                print(
                    f"warning: {folder / CARD} is of format {major}.{minor}; ignored: "
                    f"{', '.join(unknown)}",
                    file=sys.stderr,
                )
        spec = RobotSpec.from_json(json.dumps(card["spec"]))
        told = frozenset(card["instructions"]) if "instructions" in card else None
        return Card(configs.build(kind, raw), spec, told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # no JSON, no such fields
        raise CheckpointError(f"{folder / CARD}: {error}") from None


def _renewed(raw: dict[str, Any], major: int) -> dict[str, Any]:
    """A policy's settings as they would be written today: 2.0 knew of no heat maps."""
    return raw if major > 2 else raw | {"small": {"points": 0} | raw["small"]}


def _known(kind: type, raw: dict[str, Any], prefix: str = "") -> tuple[dict, list[str]]:
    """`raw` without the keys that dataclass `kind` lacks, and their names."""
    base, kept, unknown = kind(), {}, []
    names = {f.name for f in dataclasses.fields(kind)}
    for key, value in raw.items():
        if key not in names:
            unknown.append(prefix + key)
        elif dataclasses.is_dataclass(getattr(base, key)):
            kept[key], more = _known(type(getattr(base, key)), value, f"{prefix}{key}.")
            unknown += more
        else:
            kept[key] = value
    return kept, unknown


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until this is over: native code that it reaches in the middle makes an error of
    its own of it, and a whole file would be called damaged."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[tuple] = []
    before = signal.signal(signal.SIGINT, lambda *what: came.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(*came[0])


def load_weights(policy: nn.Module, folder: Path, given: set[str]) -> None:
    """Into `policy` all its weights but the `given` ones, each in its own dtype."""
    try:
        with uninterrupted():
            weights = load_file(folder / WEIGHTS)
    except Exception as error:
        raise CheckpointError(f"{folder / WEIGHTS} is damaged: {error}") from None
    own = {name: tensor for name, tensor in policy.state_dict().items() if name not in given}
    wrong = sorted(set(own) ^ set(weights)) or sorted(
        name for name in own if own[name].shape != weights[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit its card; missing, unknown or misshaped: "
            f"{', '.join(wrong[:5])}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def fingerprint(folder: Path) -> str:
    """Of a saved policy: changes with its weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name in (CARD, WEIGHTS):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def locate(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a policy: `name` itself, or a copy of it from the Hugging Face hub."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        files = ["*.json", "*.safetensors", "backbone/*"]
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=files))
    except HFValidationError:
        raise CheckpointError(
            f"{name}: no such folder, and no name on the hub (owner/name)"
        ) from None
    except Exception as error:
        raise CheckpointError(f"{name}: {explain(error)}") from None


def upload(save: Callable[[Path], None], name: str, private: bool, token: str | None) -> str:
    """Put what `save` writes onto the hub as `name`; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            (Path(folder) / "README.md").write_text(_page(name))
            api.upload_folder(repo_id=name, folder_path=folder)
    except Exception as error:
        raise CheckpointError(f"{name}: {explain(error)}") from None
    return str(address)


def _page(name: str) -> str:
    return (
        "---\nlibrary_name: robostack\npipeline_tag: robotics\n---\n"
        f"A robostack policy.\n\n```python\nfrom robostack.policy.vla import VLA\n\n"
        f'vla = VLA.from_pretrained("{name}")\n```\n'
    )


def explain(error: Exception) -> str:
    """One line of what the hub refused, and what to do."""
    kind = type(error).__name__
    advice = {
        "GatedRepoError": "it is gated: accept its terms on the hub, then `hf auth login`",
        "RepositoryNotFoundError": "the hub has no such name, or it is private: `hf auth login`",
        "RevisionNotFoundError": "the hub has no such revision of it",
        "LocalEntryNotFoundError": "it is no folder here, and the hub cannot be reached; download "
        "it where there is a network and name its folder",
        "OfflineModeIsEnabled": "it is no folder here, and HF_HUB_OFFLINE keeps from the hub",
        "LocalTokenNotFoundError": "the hub wants a login: `hf auth login`",
    }
    chain, cause = [kind], error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__
        chain.append(type(cause).__name__)
    for name in chain:
        if name in advice:
            return advice[name]
    return (str(error).splitlines() or [kind])[0]
