"""One self-contained HTML page of a demo: what came out, how sure it is, and how it was made."""

from __future__ import annotations

import html
import json
import shlex
from pathlib import Path

import numpy as np

from robostack import config, figures, page, preference_card
from robostack.data.store import Store
from robostack.demo import CONTROLS
from robostack.evaluate import auc, mcnemar
from robostack.learn.run import finished
from robostack.prefer.saved import load as load_preferences
from robostack.types import Episode, main_camera

STAGES = {
    "bc": "cloned",
    "dpo": "after DPO",
    "rl": "after DPO and RL",
}
COLUMNS = 8  # rollouts shown of each policy
RING = ("collect", "clone", "roll out", "score", "prefer", "DPO", "RL", "evaluate")


def write(run: Path, out: Path) -> Path:
    """The page of the demo in folder `run`, as file `out`, and beside it before-after.png.

    Raises FileNotFoundError where there is no finished demo.
    """
    run, out = Path(run), Path(out)
    summary = finished(run)
    if summary is None or "stages" not in summary:
        raise FileNotFoundError(f"{run} holds no finished demo (no summary.json with stages)")
    turns = sorted(run.glob("seed-*"))
    parts = [
        _head(summary),
        _success(summary, turns),
        _videos(turns[0], out),
        _curves(turns[0]),
        _rewards(turns),
        *preference_card.summary(load_preferences(turns[0] / "preferences.jsonl"), "h2"),
        _commands(turns[0], summary),
    ]
    page.write(out, "robostack report", parts)
    return out


def _head(summary: dict) -> str:
    bc, rl = summary["stages"]["bc"], summary["stages"]["rl"]
    apart = rl["ci95"][0] > bc["ci95"][1]
    verdict = "The intervals do not overlap." if apart else "The intervals overlap."
    return (
        "<h1>robostack: one turn of the ring</h1>"
        f"<p class='big'>Cloned {page.rate(bc)}, after DPO and RL {page.rate(rl)} of "
        f"{rl['episodes']} held-out starts. {verdict}</p>"
        f"<p class='soft'>{summary['seconds'] / 60:.0f} minutes of work in all.</p>{_ring()}"
    )


def _ring() -> str:
    """The stages on a circle, clockwise from the top."""
    n, parts = len(RING), []
    angle = np.arange(n) / n * 2 * np.pi - np.pi / 2
    x, y = 360 + 250 * np.cos(angle), 120 + 88 * np.sin(angle)
    parts.append(
        "<ellipse cx='360' cy='120' rx='250' ry='88' fill='none' stroke='#8aa0ad' "
        "stroke-width='2' stroke-dasharray='5 5'/>"
    )
    for i, stage in enumerate(RING):
        learns = stage in ("clone", "DPO", "RL")
        fill = "#2a6f97" if learns else "#5d7382"
        parts.append(
            f"<rect x='{x[i] - 48:.0f}' y='{y[i] - 16:.0f}' width='96' height='32' rx='16' "
            f"fill='{fill}'/><text x='{x[i]:.0f}' y='{y[i] + 5:.0f}' text-anchor='middle' "
            f"fill='white' font-size='14'>{stage}</text>"
        )
    centre = "<text x='360' y='125' text-anchor='middle' fill='#20303c'>episodes on disk</text>"
    return f"<svg viewBox='0 0 720 240' width='720' role='img'>{''.join(parts)}{centre}</svg>"


def _outcomes(turns: list[Path], name: str) -> np.ndarray:
    return np.concatenate([finished(t / f"{name}-eval")["outcomes"] for t in turns]).astype(bool)


def _success(summary: dict, turns: list[Path]) -> str:
    cells = [(name, STAGES[name], s, False) for name, s in summary["stages"].items()]
    cells += [(n, n.replace("_", ", "), s, True) for n, s in summary["controls"].items()]
    bars = figures.success_bars([(label, s, control) for _, label, s, control in cells])
    base = _outcomes(turns, "bc")
    rows = []
    for name, label, s, _ in cells:
        p = "" if name == "bc" else f"{mcnemar(base, _outcomes(turns, name)):.2g}"
        by_seed = ", ".join(f"{r:.0%}" for r in s["by_seed"])
        what = CONTROLS.get(name, "")
        rows.append(
            [label, page.rate(s), str(s["episodes"]), by_seed, p, f"{s['seconds']:.0f}", what]
        )
    header = ["policy", "success", "n", "by training seed", "p against cloned", "seconds", ""]
    note = (
        "<p class='soft'>Intervals: Wilson, 95 %. p: exact McNemar test on the same starts. "
        "Evaluation starts are never trained on. Seconds: training and evaluation.</p>"
    )
    if not summary["controls"]:
        note += "<p class='soft'>Control arms are part of <code>make demo-full</code>.</p>"
    return f"<h2>Success by stage</h2>{bars}{page.table(header, rows)}{note}"


def _videos(turn: Path, out: Path) -> str:
    rows = []
    for name in ("bc", "rl"):
        store = Store(turn / f"{name}-eval" / "store")
        rows.append([store.read(i) for i in store.ids()[: 2 * COLUMNS]])
    camera = main_camera(rows[0][0].images)
    figures.last_frames(rows, camera, out.with_name("before-after.png"))
    grid = figures.video([row[:COLUMNS] for row in rows], camera)
    return (
        "<h2>Before and after</h2><p>The first "
        f"{COLUMNS} evaluation starts: above the cloned policy, below the final one. "
        f"A frame turns green on success, red when time is up.</p>{grid}"
    )


def _metrics(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _line(rows: list[dict], x: str, y: str) -> tuple[list, list]:
    return [r[x] for r in rows], [r[y] for r in rows]


def _curves(turn: Path) -> str:
    bc, dpo, rl = (_metrics(turn / name) for name in ("bc", "dpo", "rl"))
    panels = [
        ("cloning: flow loss", "step", {"loss": _line(bc, "step", "loss")}),
        (
            "DPO: drift of the flow error",
            "step",
            {
                "chosen": _line(dpo, "step", "chosen_drift"),
                "rejected": _line(dpo, "step", "rejected_drift"),
            },
        ),
        (
            "RL: its own rollouts",
            "rollouts",
            {
                "success": _line(rl, "rollouts", "rollout_success"),
                "share that is led": _line(rl, "rollouts", "assist"),
            },
        ),
    ]
    for name, label in (("rl_constant", "constant reward"), ("rl_alone", "led by nobody")):
        if control := _metrics(turn / name):
            panels[2][2][label] = _line(control, "rollouts", "rollout_success")
    return f"<h2>Learning curves</h2>{figures.curves(panels)}"


def _rewards(turns: list[Path]) -> str:
    store = Store(turns[0] / "bc-eval" / "store")
    names = sorted(p.stem for p in (store.path / "scores").glob("*.npz"))
    tables = {name: store.read_scores(name) for name in names}
    won = {i: bool(store.attributes(i)["success"]) for i in store.ids()}
    rows = []
    for name, table in tables.items():
        ends = {
            outcome: np.array([table[i][-1] for i in won if won[i] == outcome])
            for outcome in (True, False)
        }
        means = [f"{v.mean():.2f}" if len(v) else "" for v in ends.values()]
        both = all(map(len, ends.values()))
        rows.append([name, f"{auc(ends[True], ends[False]):.2f}" if both else "", *means])
    header = ["reward", "AUC", "mean at end of a success", "of a failure"]
    shown = [next((i for i in won if won[i] == outcome), None) for outcome in (True, False)]
    titles = ["a success", "a failure"]
    traces = [(t, {n: tables[n][i] for n in names}) for t, i in zip(titles, shown) if i]
    plot = figures.reward_traces([t for t, _ in traces], [t for _, t in traces], 20.0)
    plot += _keypoints(turns[0], store.read(shown[0] or shown[1]))
    return (
        "<h2>What the rewards see</h2><p>On rollouts of the cloned policy from held-out starts, "
        "which no reward was trained on. AUC: chance that the last potential of a success is above "
        f"that of a failure.</p>{page.table(header, rows)}{plot}"
    )


def _keypoints(turn: Path, episode: Episode) -> str:
    """An episode's keypoints, projected into the first camera that does not move."""
    from robostack.sim.env import EnvConfig, make_env

    about = json.loads((turn / "bc-eval" / "run.json").read_text())
    env = make_env(config.build(EnvConfig, about["config"]["env"]))
    try:
        env.reset(episode.seed)
        still = [name for name in episode.images if env.renderer.is_fixed(name)]
        if not still:
            return ""
        pixels = {n: env.renderer.project(still[0], p) for n, p in episode.keypoints.items()}
    finally:
        env.close()
    strip = figures.keypoint_strip(episode.images[still[0]], pixels)
    return f"<p>What the keypoint reward is given, projected into {still[0]}:</p>{strip}"


def _commands(turn: Path, summary: dict) -> str:
    rows = []
    for path in sorted(turn.glob("**/run.json")):
        about, done = json.loads(path.read_text()), finished(path.parent)
        if done is not None:
            about_row = [
                f"<code>{path.parent.relative_to(turn.parent)}</code>",
                about["verb"],
                f"{done['seconds']:.0f}",
                f"<code>{html.escape(_shell(about['command']))}</code>",
                about["git"],
            ]
            rows.append(about_row)
    table = page.table(["folder", "stage", "seconds", "made by", "code"], rows)
    return (
        "<h2>How it was made</h2><p>Each folder holds its settings in <code>run.json</code> and "
        f"its numbers in <code>summary.json</code>.</p>{table}"
    )


def _shell(command: list[str]) -> str:
    return shlex.join([Path(command[0]).name, *command[1:]])
