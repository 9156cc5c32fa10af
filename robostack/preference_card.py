"""The data card of a preference set as a page: what was compared, who decided, how sure it is."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import numpy as np

from robostack import figures, page
from robostack.evaluate import wilson
from robostack.prefer.saved import PreferenceSet
from robostack.types import Clip, Episode, main_camera

SIDES = ("chosen", "rejected")
SHOWN = 6  # pairs with clips: of the largest margins, the middle and the smallest; names
FILTERS = {
    "duplicates": "both did nearly the same",
    "undecided": "equally good",
    "uncertain": "the terms disagreed most",
    "small": "the margin was small",
}


def write(path: Path, found: PreferenceSet, episodes: dict[str, Episode]) -> None:
    """The page, as file `path`; `episodes` are those that the pairs refer to."""
    page.write(path, "robostack: preferences", [*summary(found), *_clips(found, episodes)])


def summary(found: PreferenceSet, heading: str = "h1") -> list[str]:
    """Counts, what decided, and how far that agrees with success."""
    card, decided = found.card, [p for p in found.pairs if not p.tie]
    lengths = [clip.stop - clip.start for p in found.pairs for clip in (p.chosen, p.rejected)]
    parts = [
        f"<{heading}>Preferences</{heading}>",
        f"<p class='big'>{card['preferences']} pairs, {card['ties']} of them ties, of "
        f"{card['comparisons']} comparisons{_made(card)}. Clips have {min(lengths)} to "
        f"{max(lengths)} actions.</p>",
        f"<p>{_success(card)}</p>",
    ]
    dropped = [[why, str(card[name])] for name, why in FILTERS.items() if card.get(name)]
    if dropped:
        parts.append(page.table(["left out, because", "comparisons"], dropped))
    terms = [
        [f"<code>{html.escape(name)}</code>", f"{share:.0%}", _weight(card, name)]
        for name, share in sorted(card["term_agrees"].items())
    ]
    parts.append(page.table(["term", "pairs in which it favours the chosen", "weight"], terms))
    for name in card.get("silent", []):
        parts.append(
            f"<p><code>{html.escape(name)}</code>, weight {_weight(card, name)}, has no say: it is "
            f"the same for all tries of a state.</p>"
        )
    for name, tries in card.get("unknown", {}).items():
        some = html.escape(", ".join(tries[:SHOWN]) + (", ..." if len(tries) > SHOWN else ""))
        parts.append(
            f"<p>{len(tries)} tries are left out, because <code>{html.escape(name)}</code> of them "
            f"is not known: {some}.</p>"
        )
    if card.get("agreement") is not None:
        parts.append(
            f"<p>People agreed on {card['agreement']:.0%} of {card['shared']} pairs that two had "
            f"judged (Cohen's kappa {card['kappa']:.2f}).</p>"
        )
    parts.append(figures.histogram(np.array([p.margin for p in decided]), "margin"))
    return [*parts, *_truth(card)]


def _truth(card: dict) -> list[str]:
    """Whether the simulator agrees, from the smallest margins to the largest."""
    rows = [
        [
            f"{part['margin'][0]:.2g} to {part['margin'][1]:.2g}",
            *(f"{part[side] / part['pairs']:.0%}" for side in ("ahead", "behind")),
        ]
        for part in card.get("truth", [])
    ]
    if not rows:
        return []
    return [
        "<p>What the simulator knows of the same pairs: how often the chosen one came further, and "
        "how often less far. Where it seldom did either, what is preferred is noise, and "
        "<code>keep</code> leaves it out.</p>",
        page.table(["margin", "chosen came further", "less far"], rows),
    ]


def _made(card: dict) -> str:
    if "tries" in card:
        return f" between {card['tries']} candidates at {card['groups']} states"
    people = ", ".join(f"{html.escape(n)} ({k})" for n, k in card.get("answers", {}).items())
    return f" by {people}" if people else ""


def _success(card: dict) -> str:
    won, decided = card["chosen_succeeded"], card["decided_by_success"]
    if not decided:
        return "No pair differs in success."
    low, high = wilson(won, decided)
    return (
        f"Where one of a pair ended in success and the other did not, the chosen one succeeded in "
        f"{won} of {decided} [{low:.0%}, {high:.0%}]."
    )


def _weight(card: dict, name: str) -> str:
    weight = card.get("config", {}).get("weights", {}).get(name)
    return "" if weight is None else f"{weight:g}"


def _clips(found: PreferenceSet, episodes: dict[str, Episode]) -> list[str]:
    """Films of some pairs, the chosen one on the left."""
    ranked = sorted((p for p in found.pairs if not p.tie), key=lambda p: (-p.margin, p.group))
    picked = np.unique(np.linspace(0, len(ranked) - 1, SHOWN).astype(int))
    parts = [
        "<h2>Some of them</h2><p>From the largest margin to the smallest; left was chosen.</p>"
    ]
    for pair in (ranked[k] for k in picked):
        terms = ", ".join(f"{html.escape(n)} {x:+.2f}" for n, x in sorted(pair.terms.items()))
        who = f", by {html.escape(pair.annotator)}" if pair.annotator else ""
        parts.append(
            f"<h3>{html.escape(pair.group)}: margin {pair.margin:.2f}{who}</h3>"
            f"<p class='soft'>{terms}</p>"
        )
        sides = [(c, episodes[c.episode]) for c in (pair.chosen, pair.rejected)]
        camera = main_camera(sides[0][1].images)
        if camera and not any(clip.chunk for clip, _ in sides):
            row = [_cut(episode, clip) for clip, episode in sides]
            parts.append(figures.video([row], camera, size=280))
        else:
            parts.append(_actions(sides))
    return parts


def _cut(episode: Episode, clip: Clip) -> Episode:
    """What of an episode a clip shows."""
    seen, done = slice(clip.start, clip.stop + 1), slice(clip.start, clip.stop)
    return replace(
        episode,
        states=episode.states[seen],
        images={name: frames[seen] for name, frames in episode.images.items()},
        stamps=episode.stamps[seen],
        actions=episode.actions[done],
        keypoints={name: points[seen] for name, points in episode.keypoints.items()},
        truth=None,
    )


def _actions(sides: list[tuple[Clip, Episode]]) -> str:
    """What two clips do, of which there is nothing to see, as curves."""
    both = [
        np.array(c.chunk, np.float32) if c.chunk else episode.actions[c.start : c.stop]
        for c, episode in sides
    ]
    return figures.curves(
        [
            (name, "step", {n: (list(range(len(a))), a[:, d]) for n, a in zip(SIDES, both)})
            for d, name in enumerate(sides[0][1].spec.action_names[:4])
        ]
    )
