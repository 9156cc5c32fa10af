"""One page of a run of online learning: success, what the updates did, what went wrong, alarms,
films. It is there after the first iteration, and says how far the run has come."""

from __future__ import annotations

import html
import json
from pathlib import Path

from robostack import figures, page
from robostack.alarms import Alarms, limits
from robostack.config import build
from robostack.data.store import Store
from robostack.evaluate import wilson
from robostack.learn.rl.turns import CHECKS
from robostack.learn.run import finished
from robostack.types import main_camera

PAGE = "report.html"
COLUMNS = 6  # rollouts shown of the first and of the last iteration
LEARNING = (
    *("loss", "kl", "clipped", "critic_error", "agreement", "moved", "value", "expected"),
    "curiosity",
)
ABREAST = 4  # pictures in a row
WHAT = {
    "loss": "loss",
    "kl": "KL from what acted",
    "clipped": "share of ratios outside the clip",
    "critic_error": "critic's squared error",
    "agreement": "share of chunks moved the right way",
    "moved": "squared move of the velocity",
    "value": "critics' mean value",
    "expected": "value that nudged chunks expect",
    "curiosity": "paid for novelty, a step",
}


def write(run: Path, summary: dict | None = None) -> Path:
    """The page in the folder of a `train rl`; `summary` is of one that has ended and has not yet
    written its own. Raises FileNotFoundError where no iteration of one has ended."""
    rows = _metrics(run)
    about = json.loads((run / "run.json").read_text()) if (run / "run.json").is_file() else {}
    if about.get("verb") != "train rl" or not rows:
        raise FileNotFoundError(f"{run} holds no iteration of a `robostack train rl`")
    config = about["config"]["rl"]
    parts = [
        f"<h1>{html.escape(config['algorithm'])} on {html.escape(about['config']['env']['task'])}"
        "</h1>",
        _success(rows, config, _checks(run, about["config"]), summary or finished(run)),
        _learning(rows),
        _trouble(rows, config),
        _alarms(rows, build(Alarms, config["alarms"])),
        _films(Store(run / "store"), config["episodes"], len(rows)),
        f"<h2>Settings</h2><pre>{html.escape(json.dumps(about['config'], indent=1))}</pre>",
    ]
    out = run / PAGE
    page.write(out, "robostack train rl", parts)
    return out


def _metrics(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _checks(run: Path, config: dict) -> tuple[list[float], list[tuple[float, float]]]:
    """Success in trials, of the start and of every iteration's policy, and the 95 % intervals."""
    path, each = run / CHECKS, config["trials"]["episodes"]
    rates = json.loads(path.read_text()) if path.is_file() else []
    return rates, [wilson(round(rate * each), each) for rate in rates]


def _success(rows: list[dict], config: dict, checks: tuple, summary: dict | None) -> str:
    each = config["episodes"]
    counts = [round(row["rollout_success"] * each) for row in rows]
    bands = [wilson(count, each) for count in counts]
    rates, x = [count / each for count in counts], [row["rollouts"] for row in rows]
    lines = {"rollouts": (x, rates, bands)}
    if checks[0]:
        lines["held-out trials, after"] = ([0, *x][: len(checks[0])], *checks)
    first, last = rows[0].get("assist", 0.0), rows[-1].get("assist", 0.0)
    why = "Rollouts explore, so their success is a lower one than the policy's"
    led = [row.get("led", 0) for row in (rows[0], rows[-1])]
    if first or any(led):
        why = f"At first {first:.0%} of the hand's motion were led, at last {last:.0%}"
        why += f", and {led[0]} rollouts had help, at last {led[1]}" if any(led) else ""
    told = f"{rows[-1]['rollouts']} rollouts"
    if summary is None:
        told += f" of {config['iterations'] * each}, <b>and going on</b>"
    else:
        told += f", {summary['seconds'] / 60:.0f} minutes"
    told += (
        f". {why}: the first {each} succeeded in {rates[0]:.0%}, the last in {rates[-1]:.0%}."
        f"{_ending(summary or {})}"
    )
    return f"<p class='big'>{told}</p>{figures.success_curves(lines)}"


def _ending(summary: dict) -> str:
    """Why it ended where it was told to, and whose policy came of it."""
    told, best = "", summary.get("best_iteration")
    if stopped := summary.get("stopped"):
        told = (
            f" <b>Stopped in iteration {stopped['iteration']}</b>: "
            f"{html.escape('; '.join(stopped['alarms']))}."
        )
    if best is not None:
        whose = f"that of iteration {best}" if best else "the one that it began with"
        told += f" The policy is {whose}, the best in trials"
        told += " of those whose rollouts raised no alarm." if stopped else "."
    elif stopped:
        told += " The policy is the last whose rollouts raised no alarm."
    return told


def _learning(rows: list[dict]) -> str:
    panels = []
    for name in LEARNING:
        own = [row for row in rows if name in row]
        if own:
            line = [row["rollouts"] for row in own], [row[name] for row in own]
            panels.append((WHAT[name], "rollouts", {name: line}))
    shown = [panels[k : k + ABREAST] for k in range(0, len(panels), ABREAST)]
    return "<h2>What the updates did</h2>" + "".join(figures.curves(row) for row in shown)


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def _trouble(rows: list[dict], config: dict) -> str:
    """What was handled and counted, iteration by iteration."""
    counts = {
        "updates": [row["updates"] if "updates" in row else config["updates"] for row in rows],
        "groups that told nothing": [
            row["groups"] - row["groups_used"] if "groups" in row else None for row in rows
        ],
        "ratios cut off": [row.get("exploded") for row in rows],
        "rollouts with help": [row.get("led") for row in rows],
        "rollouts with an intervention": [row.get("interventions") for row in rows],
        "rollouts that nobody judged": [row.get("unjudged") for row in rows],
        "workers lost": [row.get("workers_lost") for row in rows],
    }
    told = {name: own for name, own in counts.items() if any(value is not None for value in own)}
    table = [
        [str(row["rollouts"]), *("" if v[k] is None else _number(v[k]) for v in told.values())]
        for k, row in enumerate(rows)
    ]
    return f"<h2>What went wrong</h2>{page.table(['after', *told], table)}"


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
    camera = main_camera(store.spec.cameras)
    if not camera:
        return ""
    return (
        f"<h2>Rollouts of the first and of the last iteration</h2>{figures.video(shown, camera)}"
        "<p class='soft'>Green frames: success.</p>"
    )
