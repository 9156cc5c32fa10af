"""Instructions: several phrasings of each request, of at most 12 words, all in lower case."""

from __future__ import annotations

import numpy as np

TEMPLATES: dict[str, tuple[str, ...]] = {
    "pick": (
        "pick up the {mover}",
        "pick the {mover} up",
        "lift the {mover}",
        "grasp the {mover} and raise it",
        "raise the {mover} off the table",
    ),
    "place": (
        "put the {mover} {relation} the {reference}",
        "place the {mover} {relation} the {reference}",
        "move the {mover} {relation} the {reference}",
        "set the {mover} down {relation} the {reference}",
    ),
    "stack": (
        "stack the {mover} on the {reference}",
        "put the {mover} on top of the {reference}",
        "place the {mover} on the {reference}",
        "set the {mover} down on the {reference}",
    ),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "front": ("in front of",),
    "behind": ("behind",),
}


def phrase(
    rng: np.random.Generator,
    kind: str,
    mover: str,
    reference: str | None = None,
    relation: str | None = None,
) -> str:
    """One of the phrasings of a request; things are named by colour and shape."""
    template = TEMPLATES[kind][rng.integers(len(TEMPLATES[kind]))]
    words = RELATION_WORDS.get(relation, ("",))
    words = words[rng.integers(len(words))]
    return template.format(mover=mover, reference=reference, relation=words)
