"""One page of a run of online learning: success, what the updates did, alarms, films."""

from __future__ import annotations

import html
import json
from pathlib import Path

from robostack import figures, page
from robostack.alarms import Alarms, limits
from robostack.config import build
from robostack.data.store import Store
from robostack.evaluate import wilson
from robostack.learn.run import finished

COLUMNS = 6  # rollouts shown of the first and of the last iteration
LEARNING = ("loss", "kl", "clipped", "critic_error", "agreement", "moved", "value", "expected")
WHAT = {
    "loss": "loss",
    "kl": "KL from what acted",
    "clipped": "share of ratios outside the clip",
    "critic_error": "critic's squared error",
    "agreement": "share of chunks moved the right way",
    "moved": "squared move of the velocity",
    "value": "critics' mean value",
    "expected": "value that nudged chunks expect",
}


def write(run: Path) -> Path:
    """The page `report.html` in the folder of a finished `train rl`. Raises FileNotFoundError where
    there is none."""
    rows = _metrics(run)
    about = json.loads((run / "run.json").read_text()) if (run / "run.json").is_file() else {}
    if about.get("verb") != "train rl" or not rows or finished(run) is None:
        raise FileNotFoundError(f"{run} holds no finished `robostack train rl`")
    config = about["config"]["rl"]
    parts = [
        f"<h1>{html.escape(config['algorithm'])} on {html.escape(about['config']['env']['task'])}"
        "</h1>",
        _success(rows, config, finished(run)),
        _learning(rows),
        _alarms(rows, build(Alarms, config["alarms"])),
        _films(Store(run / "store"), config["episodes"], len(rows)),
        f"<h2>Settings</h2><pre>{html.escape(json.dumps(about['config'], indent=1))}</pre>",
    ]
    out = run / "report.html"
    page.write(out, "robostack train rl", parts)
    return out


def _metrics(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _success(rows: list[dict], config: dict, summary: dict) -> str:
    each = config["episodes"]
    counts = [round(row["rollout_success"] * each) for row in rows]
    bands = [wilson(count, each) for count in counts]
    checked = [row["checked_success"] for row in rows if "checked_success" in row]
    rates, x = [count / each for count in counts], [row["rollouts"] for row in rows]
    lines = {"rollouts": (x, rates, bands)}
    if checked:
        lines["held-out trials, after"] = (x, checked, None)
    first, last = rows[0].get("assist", 0.0), rows[-1].get("assist", 0.0)
    why = "Rollouts explore, so their success is a lower one than the policy's"
    if first:
        why = f"At first {first:.0%} of the hand's motion were led, at last {last:.0%}"
    told = (
        f"{rows[-1]['rollouts']} rollouts, {summary['seconds'] / 60:.0f} minutes. {why}: the first "
        f"{each} succeeded in {rates[0]:.0%}, the last in {rates[-1]:.0%}."
    )
    if stopped := summary.get("stopped"):
        told += (
            f" <b>Stopped in iteration {stopped['iteration']}</b>: "
            f"{html.escape('; '.join(stopped['alarms']))}. The policy is the last before."
        )
    if "best_iteration" in summary:
        told += f" The policy is that of iteration {summary['best_iteration']}, the best in trials."
    return f"<p class='big'>{told}</p>{figures.success_curves(lines)}"


def _learning(rows: list[dict]) -> str:
    panels = []
    for name in LEARNING:
        own = [row for row in rows if name in row]
        if own:
            line = [row["rollouts"] for row in own], [row[name] for row in own]
            panels.append((WHAT[name], "rollouts", {name: line}))
    return f"<h2>What the updates did</h2>{figures.curves(panels[:4])}" if panels else ""


def _alarms(rows: list[dict], config: Alarms) -> str:
    header = ["after", *limits(config)]
    table = [
        ["limit", *(f"{limit:g}" for limit in limits(config).values())],
        *(
            [
                str(row["rollouts"]),
                *(
                    _reading(row.get(f"alarm_{name}"), limit)
                    for name, limit in limits(config).items()
                ),
            ]
            for row in rows
        ),
    ]
    return (
        "<h2>Whether the reward is being hacked</h2><p>Readings of each iteration's rollouts "
        f"(robostack/alarms.py); those above their limit are bold.</p>{page.table(header, table)}"
    )


def _reading(value: float | None, limit: float) -> str:
    if value is None:
        return ""
    return f"<b>{value:.3g}</b>" if value > limit else f"{value:.3g}"


def _films(store: Store, each: int, iterations: int) -> str:
    ids = store.ids()
    first, last = ids[:each], ids[(iterations - 1) * each :]
    shown = [[store.read(i) for i in part[:COLUMNS]] for part in (first, last)]
    camera = next(iter(store.spec.cameras), None)
    if camera is None:
        return ""
    return (
        f"<h2>Rollouts of the first and of the last iteration</h2>{figures.video(shown, camera)}"
        "<p class='soft'>Green frames: success.</p>"
    )
