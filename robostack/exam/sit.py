"""Holding an exam: every reward is asked about every episode, and the trials read the answers.

<out>/exam.json, index.html     what was found; the page is drawn where that has changed
<out>/answers/<fingerprint>/    what a reward said of a store, so that an interrupted exam goes
                                on, and one that is held again asks only what is new
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import robostack
from robostack.exam import card, gate, order, questions
from robostack.exam.answers import ask
from robostack.exam.charts import Album
from robostack.exam.claims import claims
from robostack.exam.paper import Paper, other_instructions, papers, starts
from robostack.exam.results import RESULT
from robostack.exam.sheet import ExamConfig, ExamError, Sheet
from robostack.exam.trials import Trial, chosen, hold
from robostack.learn.run import write_json
from robostack.protocols import Reward
from robostack.rewards.saved import Starts

# numbers that say nothing of what a reward says
ANYWAY = {"ms_a_frame", "ms_live", "judged", "blank_drift", "blank_refused"}


def sit(rewards: dict[str, Reward], data: list[Path], out: Path, config: ExamConfig) -> dict:
    """Hold the exam and write it to `out`, and each reward's part to its own folder.

    Returns {"rewards": {name: {"fingerprint", "claims", "numbers", "by_task", "confusion",
    "aims", "not_applicable"}}, "data", "stores", "starts", "trials", "seed", "version"}: `stores`
    with digests of what they hold, `starts` the seeds of each instruction. Raises ExamError if
    nothing could be asked of any reward.
    """
    out = Path(out)
    exam, sheets, album = examined(rewards, data, out, config)
    page = out / "index.html"
    if not (page.is_file() and _known(out / RESULT, exam)):
        card.write(page, exam, sheets, album)
        write_json(out / RESULT, exam)
    for name, reward in rewards.items():
        home = getattr(reward, "home", None)
        if home is not None:
            about = {key: value for key, value in exam.items() if key != "rewards"}
            write_json(Path(home) / RESULT, {**exam["rewards"][name], **about})
    return exam


def _known(path: Path, exam: dict) -> bool:
    """Whether an exam before found all of this."""
    try:
        return json.loads(path.read_text()) == json.loads(json.dumps(exam))
    except (OSError, ValueError):
        return False


def examined(
    rewards: dict[str, Reward], data: list[Path], out: Path, config: ExamConfig
) -> tuple[dict, dict[str, Sheet], Album]:
    """The exam, the answers that it rests on, and pictures; of these only answers go to disk."""
    if not rewards:
        raise ExamError("no reward to examine")
    trials, aims, stores = chosen(config.trials), gate.aims(config.aims), papers(data, config)
    words = other_instructions(stores, config.instructions)
    sheets = {name: Sheet(config, instructions=words) for name in rewards}
    needs = {variant for trial in trials for variant in trial.needs} | {questions.PLAIN}
    album = Album()
    for paper in stores:
        ask(rewards, sheets, paper, out, needs, album.offer)
    held = starts(stores)
    exam = {
        "rewards": {
            name: _result(rewards[name], sheet, trials, aims, stores, held)
            for name, sheet in sheets.items()
        },
        "data": [str(Path(folder).resolve()) for folder in data],
        "stores": [paper.about() for paper in stores],
        "starts": held,
        "trials": [trial.name for trial in trials],
        "seed": config.seed,
        "version": robostack.__version__,
    }
    if not any(set(r["numbers"]) - ANYWAY for r in exam["rewards"].values()):
        reasons = [f"{n}: {w}" for n, r in exam["rewards"].items() for w in _reasons(r)]
        raise ExamError("nothing could be asked: " + "; ".join(reasons[:4]))
    return exam, sheets, album


def _reasons(result: dict) -> list[str]:
    return list(dict.fromkeys(result["not_applicable"].values()))


def _result(
    reward: Reward,
    sheet: Sheet,
    trials: list[Trial],
    aims: gate.Bounds,
    stores: list[Paper],
    held: Starts,
) -> dict:
    """One reward's part of the exam."""
    numbers, reasons = hold(sheet, trials)
    for paper in stores:
        for variant in (questions.PLAIN, *questions.CONTROLS, questions.LIVE):
            keys = [(variant, f"{paper.name}/{i}") for i in paper.ids]
            said = [sheet.refused[key] for key in keys if key in sheet.refused]
            if said:
                share = f"{len(said)} of {len(said) + sum(k in sheet.said for k in keys)} episodes"
                what = f"store {paper.name}" + f", {variant}" * (variant != questions.PLAIN)
                reasons[what] = f"{share}: {max(set(said), key=said.count)}"
    wanted = {number for trial in trials for number in trial.finds}
    rows, columns, table = order.confusion(sheet)
    cells = [[float(x) if np.isfinite(x) else None for x in row] for row in table]
    return {
        "fingerprint": reward.fingerprint(),
        "claims": claims(reward, len(held) > 1),
        "numbers": numbers,
        "by_task": {task: hold(sheet.of_task(task), trials)[0] for task in sheet.tasks()},
        "confusion": {"rows": rows, "columns": columns, "table": cells},
        "aims": gate.judged(numbers, {n: b for n, b in aims.items() if n in wanted}),
        "not_applicable": reasons,
    }
