"""Pictures of an exam, as strings that fit into one HTML file."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field

import cv2
import matplotlib.pyplot as plt
import numpy as np

from robostack.evaluate import auc
from robostack.exam import choice, metrics, order, outcome
from robostack.exam.questions import CONTROLS, PLAIN
from robostack.exam.sheet import Case, NotApplicable, Sheet
from robostack.figures import BAD, GOOD, INK, PALETTE, SOFT, svg
from robostack.types import Episode, main_camera

SHOWN = ("success", "recovery", "after success", "near miss", "hover", "failure", "wrong object")
TASKS, FRAMES, SIDE = 8, 5, 72  # tasks shown, frames of a strip, their side [px]


@dataclass
class Album:
    """One episode of each task and label, and a strip of its frames."""

    pages: dict[str, dict[str, tuple[Case, bytes]]] = field(default_factory=dict)

    def offer(self, case: Case, episode: Episode) -> None:
        """Keep it if it is the first of its kind in the plain data."""
        label = case.label or {2: "success", 0: "failure"}.get(case.outcome, "")
        known = self.pages.setdefault(case.task, {}) if len(self.pages) < TASKS else None
        page = self.pages.get(case.task, known)
        if page is None or case.shift or label not in SHOWN or label in page:
            return
        page[label] = case, _strip(episode)


def _strip(episode: Episode) -> bytes:
    """Evenly spaced frames of the main camera as a PNG."""
    frames = episode.images[main_camera(episode.images)]
    places = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
    small = [cv2.resize(frames[t], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for t in places]
    return cv2.imencode(".png", np.concatenate(small, 1)[..., ::-1])[1].tobytes()


def image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<img src='data:image/png;base64,{data}' alt='{html.escape(alt, quote=True)}'>"


def _panels(rows: int, columns: int, width: float, height: float):
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context({**style, "text.color": INK, "axes.edgecolor": SOFT}):
        return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def traces(case: Case, sheets: dict[str, Sheet]) -> str:
    """What every reward said of one episode, over time."""
    figure, axes = _panels(1, 1, 3.5, 1.9)
    ax = axes[0, 0]
    for i, (name, sheet) in enumerate(sheets.items()):
        phi = sheet.said.get((PLAIN, case.key))
        if phi is not None:
            ax.plot(np.arange(len(phi)) / case.hz, phi, color=colour(i), lw=1.5, label=name)
    if case.truth is not None:
        time = np.arange(len(case.truth)) / case.hz
        ax.plot(time, case.truth, color=INK, lw=1, ls=":", label="truth")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("time [s]")
    return svg(figure)


def colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def controls(sheet: Sheet, cases: list[Case]) -> str:
    """A success of each task as it was and under the controls."""
    cases = [c for c in cases if (PLAIN, c.key) in sheet.said][:TASKS]
    if not cases:
        return ""
    columns = min(4, len(cases))
    rows = -(-len(cases) // columns)
    figure, axes = _panels(rows, columns, 3.2, 2.2)
    for ax in axes.flat[len(cases) :]:
        ax.set_axis_off()
    for ax, case in zip(axes.flat, cases):
        for tint, name in zip((INK, *PALETTE[:4]), (PLAIN, *CONTROLS)):
            phi = sheet.said.get((name, case.key))
            if phi is not None:
                label = "as it was" if name == PLAIN else name
                width = 2 if name == PLAIN else 1.1
                ax.plot(np.arange(len(phi)) / case.hz, phi, color=tint, lw=width, label=label)
        ax.set_title(_short(case.task), fontsize=9, loc="left", parse_math=False)
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel("time [s]")
    axes[0, columns - 1].legend(
        frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    figure.subplots_adjust(wspace=0.35, hspace=0.55)
    return svg(figure)


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def confusion(sheet: Sheet) -> str:
    """Mean final potential of successes under every instruction, as a heat map."""
    rows, columns, table = order.confusion(sheet)
    if not rows or len(columns) < 3 or np.isnan(table[:, 1:]).all():  # nothing to confuse
        return ""
    figure, axes = _panels(1, 1, 2.6 + 0.55 * len(columns), 1.6 + 0.36 * len(rows))
    ax = axes[0, 0]
    ax.imshow(table, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for i, j in np.ndindex(*table.shape):
        if np.isfinite(table[i, j]):
            tint = "white" if table[i, j] > 0.6 else INK
            ax.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", color=tint, fontsize=8)
    text = dict(fontsize=8, parse_math=False)
    ax.set_yticks(range(len(rows)), [_short(r) for r in rows], **text)
    names = [_short(c, 28) for c in columns]
    ax.set_xticks(range(len(columns)), names, rotation=35, ha="right", **text)
    ax.set_title("final potential of successes (rows), asked otherwise", fontsize=9, loc="left")
    return svg(figure)


def detection(sheet: Sheet) -> str:
    """ROC curve, reliability and ranking of chunks, side by side, as far as there are data."""
    found = [draw for draw in (_roc, _reliability, _choices) if draw(sheet, None)]
    if not found:
        return ""
    figure, axes = _panels(1, len(found), 3.2, 2.9)
    for ax, draw in zip(axes[0], found):
        draw(sheet, ax)
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
    figure.subplots_adjust(wspace=0.35, hspace=0.55)
    return svg(figure)


def _roc(sheet: Sheet, ax) -> bool:
    try:
        _, final, ended, _ = outcome.whole(sheet)
    except NotApplicable:
        return False
    won = ended == 2
    if won.all() or not won.any():
        return False
    if ax is not None:
        cuts = np.r_[np.inf, np.unique(final)[::-1]]
        right = [(final[won] >= cut).mean() for cut in cuts]
        wrong = [(final[~won] >= cut).mean() for cut in cuts]
        ax.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
        ax.plot(wrong, right, color=PALETTE[0], lw=1.8)
        ax.set_title(f"ROC, area {auc(final[won], final[~won]):.3f}", fontsize=9, loc="left")
        ax.set_xlabel("share of others")
        ax.set_ylabel("share of successes")
    return True


def _reliability(sheet: Sheet, ax) -> bool:
    try:
        _, final, ended, _ = outcome.whole(sheet)
    except NotApplicable:
        return False
    if ax is not None:
        ones = np.ones((1, len(final)))
        mass, said, was = (part[0] for part in metrics.reliability(final, ended == 2, ones))
        kept = mass > 0
        ax.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
        ax.scatter(said[kept], was[kept], s=20 + 400 * mass[kept], color=PALETTE[1], alpha=0.8)
        ax.set_title("reliability, bins of equal mass", fontsize=9, loc="left")
        ax.set_xlabel("final potential")
        ax.set_ylabel("share that succeeded")
    return True


def _choices(sheet: Sheet, ax) -> bool:
    """Ranks within each state, of the chunks beforehand where the reward can, else afterwards."""
    for variant, title in (("rank", "before"), (PLAIN, "after")):
        try:
            groups = choice.groups(sheet, variant)
        except NotApplicable:
            continue
        if ax is not None:
            rng = np.random.default_rng(0)
            for said, truth in groups:
                most = max(len(said) - 1, 1)
                x, y = metrics.ranks(said) / most, metrics.ranks(truth) / most
                shake = rng.uniform(-0.02, 0.02, (2, len(x)))
                ax.scatter(x + shake[0], y + shake[1], s=9, color=PALETTE[4], alpha=0.5)
            ax.set_title(f"chunks within a state, judged {title}", fontsize=9, loc="left")
            ax.set_xlabel("rank by the reward")
            ax.set_ylabel("rank by the truth")
        return True
    return False


def verdict(text: str, met: bool | None) -> str:
    """Text in the colour of what it means."""
    tint = {True: GOOD, False: BAD, None: SOFT}[met]
    return f"<b style='color:{tint}'>{text}</b>"
