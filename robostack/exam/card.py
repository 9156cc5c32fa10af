"""The page of an exam: what was asked, what came out, and what could not be asked."""

from __future__ import annotations

import html
from pathlib import Path

from robostack import page
from robostack.exam import charts
from robostack.exam.sheet import Sheet
from robostack.exam.trials import AIMS, MEANINGS, SHIFTS, TRIALS

STYLE = (
    "<style>.strips{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:1rem}"
    ".strips img{display:block;width:100%} .strips p{margin:.2rem 0}"
    "td{font-variant-numeric:tabular-nums;vertical-align:top} .soft td{color:#64788a}"
    ".wide{overflow-x:auto} details{margin:.8rem 0}</style>"
)


def write(path: Path, exam: dict, sheets: dict[str, Sheet], album: charts.Album) -> None:
    """One self-contained HTML file."""
    parts = [STYLE, _head(exam), _aims(exam), _episodes(sheets, album)]
    parts += [_reward(name, exam["rewards"][name], sheet, album) for name, sheet in sheets.items()]
    parts += [_all(exam), _about(exam)]
    page.write(path, "reward exam", parts)


def _head(exam: dict) -> str:
    rows = []
    for name, result in exam["rewards"].items():
        claimed = {n: a for n, a in result["aims"].items() if _claimed(result, n)}
        verdicts = [aim["met"] for aim in claimed.values()]
        met, missed = verdicts.count(True), verdicts.count(False)
        rest = verdicts.count(None)
        unasked = f", {rest} could not be asked" if rest else ""
        beside = len(result["aims"]) - len(claimed)
        unasked += f", {beside} it does not claim" if beside else ""
        rows.append(
            f"<li><b>{html.escape(name)}</b> met {charts.verdict(str(met), True)} aims and missed "
            f"{charts.verdict(str(missed), False if missed else None)}{unasked}</li>"
        )
    return f"<h1>Reward exam</h1><ul class='big'>{''.join(rows)}</ul>"


def _claimed(result: dict, number: str) -> bool:
    """Whether a number is one by which this reward is judged: its kind's, or the exam's own."""
    return number in result["claims"] or number not in AIMS


def _cell(number: dict | None, met: bool | None = None, judged: bool = False) -> str:
    if number is None:
        return "<span class='soft'>n/a</span>"
    value = f"{number['value']:.3g}" if abs(number["value"]) >= 10 else f"{number['value']:.2f}"
    text = charts.verdict(value, met) if judged else value
    spread = f"[{number['low']:.2f}, {number['high']:.2f}]"
    return f"{text} <span class='soft'>{spread}, n&nbsp;=&nbsp;{number['n']}</span>"


def _bounds(aim: dict) -> str:
    low, high = aim.get("min"), aim.get("max")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"&ge; {low:g}" if low is not None else f"&le; {high:g}"


def _aims(exam: dict) -> str:
    rewards = exam["rewards"]
    names = list(dict.fromkeys(n for result in rewards.values() for n in result["aims"]))
    rows = []
    for name in names:
        aim = next(r["aims"][name] for r in rewards.values() if name in r["aims"])
        cells = [
            _cell(r["numbers"].get(name), r["aims"][name]["met"], _claimed(r, name))
            for r in rewards.values()
        ]
        meaning = html.escape(MEANINGS[name])
        about = f"<code>{name}</code><br><span class='soft'>{meaning}</span>"
        rows.append([about, _bounds(aim), *cells])
    header = ["number", "aim", *map(html.escape, rewards)]
    note = (
        "<p class='soft'>In brackets: 95 % bootstrap interval over episodes (states, where chunks "
        "are ranked). Uncoloured: what a reward of its kind does not claim.</p>"
    )
    return f"<h2>Aims</h2><div class='wide'>{page.table(header, rows)}</div>{note}"


def _episodes(sheets: dict[str, Sheet], album: charts.Album) -> str:
    """One episode of every kind: what was seen, and what each reward made of it."""
    legend = ", ".join(
        f"<b style='color:{charts.colour(i)}'>{html.escape(n)}</b>" for i, n in enumerate(sheets)
    )
    parts = [
        "<h2>What the rewards said</h2>"
        f"<p>{legend}; dotted: the simulator's own reward, which no reward saw.</p>"
    ]
    for task, kinds in album.pages.items():
        if not kinds:
            continue
        cells = []
        for label in (k for k in charts.SHOWN if k in kinds):
            case, strip = kinds[label]
            head = f"<b>{label}</b> <span class='soft'>“{html.escape(case.asked)}”</span>"
            drawn = charts.traces(case, sheets) + charts.image(strip, f"{label}: {case.asked}")
            cells.append(f"<div><p>{head}</p>{drawn}</div>")
        parts.append(f"<h3>{html.escape(task)}</h3><div class='strips'>{''.join(cells)}</div>")
    return "".join(parts)


def _reward(name: str, result: dict, sheet: Sheet, album: charts.Album) -> str:
    successes = [kinds["success"][0] for kinds in album.pages.values() if "success" in kinds]
    parts = [f"<h2>{html.escape(name)}</h2><p class='soft'>{result['fingerprint']}</p>"]
    drawn = charts.controls(sheet, successes)
    if drawn:
        parts.append(
            "<p>A success of each task as it was, played backwards, in random order, with one "
            f"observation throughout, and with nothing to be seen:</p>{drawn}"
        )
    parts += [charts.detection(sheet), charts.confusion(sheet), _tasks(result)]
    parts.append(_shifts(result["numbers"]))
    if result["not_applicable"]:
        rows = [
            [html.escape(what), html.escape(why)] for what, why in result["not_applicable"].items()
        ]
        parts.append("<h3>Not applicable</h3>" + page.table(["what", "why"], rows))
    return "".join(parts)


def _tasks(result: dict) -> str:
    """The numbers that have an aim, task by task."""
    names = [n for n in result["aims"] if any(n in found for found in result["by_task"].values())]
    if not names:
        return ""
    rows = [
        [html.escape(task), *(_cell(found.get(name)) for name in names)]
        for task, found in result["by_task"].items()
    ]
    header = ["task", *(f"<code>{name}</code>" for name in names)]
    return f"<h3>Task by task</h3><div class='wide'>{page.table(header, rows)}</div>"


def _shifts(numbers: dict) -> str:
    rows = [
        [shift, *(_cell(numbers.get(f"{kind}.{shift}")) for kind in ("voc", "auc", "change"))]
        for shift in SHIFTS
        if any(f"{kind}.{shift}" in numbers for kind in ("voc", "auc", "change"))
    ]
    if not rows:
        return ""
    plain = ["none", _cell(numbers.get("voc")), _cell(numbers.get("auc")), ""]
    header = ["what changed", "VOC", "AUC", "mean change of the potential"]
    return "<h3>Under shifts</h3>" + page.table(header, [plain, *rows])


def _all(exam: dict) -> str:
    rewards = exam["rewards"]
    rows = [
        [trial.name, f"<code>{name}</code>", html.escape(meaning), *cells]
        for trial in TRIALS.values()
        for name, meaning in trial.finds.items()
        if any(name in r["numbers"] for r in rewards.values())
        for cells in [[_cell(r["numbers"].get(name)) for r in rewards.values()]]
    ]
    header = ["trial", "number", "", *map(html.escape, rewards)]
    return f"<h2>All numbers</h2><div class='wide'>{page.table(header, rows)}</div>"


def _about(exam: dict) -> str:
    data = "".join(f"<li><code>{html.escape(path)}</code></li>" for path in exam["data"])
    return (
        f"<h2>How it was held</h2><p>robostack {exam['version']}, seed {exam['seed']}, on:</p>"
        f"<ul>{data}</ul><p class='soft'>Rewards never saw an outcome, a label or the simulator's "
        "reward. What each number means: <code>robostack/exam/metrics.py</code>.</p>"
    )
