"""The real main, the whole ring, on a tiny configuration: real physics, pixels and files."""

import json
import re

import pytest

from robostack.cli import FAILED, OK, USAGE, main
from robostack.demo import CONTROLS
from robostack.verbs import VERBS

TINY = """
env: {cameras: {agentview: 32}, horizon: 60}
demos: {seeds: 2, noise: 0.05}
bc:
  steps: 4
  batch: 4
  draws: 2
  policy: {small: {width: 32, layers: 1, heads: 2}, expert: {width: 32}}
tries: {by: branch, seeds: 1, branch: {tries: 2, points: 2, span: 4, every: 4}}
reward:
  steps: 3
  eye: {side: 16, width: 16}
  world_model: {members: 2, batch: 4}
  progress: {episodes: 4}
  success: {batch: 16}
exam: 1
prefer: {weights: {outcome: 1, keypoints: 1}}
dpo: {steps: 2, batch: 2, draws: 2}
rl: {rl: {iterations: 2, episodes: 1, updates: 2, batch: 4, draws: 2, critic_updates: 2}}
evaluate: {episodes: 2}
controls: true
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    config = folder / "tiny.yaml"
    config.write_text(TINY)
    command = ["demo", "--config", str(config), "--out", str(folder / "demo"), "--workers", "1"]
    assert main(command) == OK
    return folder / "demo", command


def test_the_summary_has_the_promised_form(demo):
    summary = json.loads((demo[0] / "summary.json").read_text())
    assert set(summary["stages"]) == {"bc", "dpo", "rl"}
    assert set(summary["controls"]) == set(CONTROLS)
    for stage in (*summary["stages"].values(), *summary["controls"].values()):
        assert stage["successes"] == stage["success_rate"] * stage["episodes"]
        low, high = stage["ci95"]
        assert low <= stage["success_rate"] <= high and stage["seconds"] > 0
    assert summary["seconds"] > 0


def test_the_report_carries_everything_it_shows(demo):
    page = (demo[0] / "report.html").read_text()
    assert "data:video/webm;base64," in page and page.count("<svg") >= 5
    assert not re.findall(r"(?:src|href)=[\"']?https?:", page)


def test_a_second_run_re_uses_every_stage(demo):
    folder, command = demo
    stages = sorted(folder.glob("seed-0/**/summary.json"))
    before = {path: path.stat().st_mtime_ns for path in stages}
    assert main(command) == OK
    assert {path: path.stat().st_mtime_ns for path in stages} == before


def test_a_changed_setting_is_refused_and_named(demo, capsys):
    assert main([*demo[1], "bc.steps=5"]) == FAILED
    assert "steps was 4, is 5" in capsys.readouterr().err


def test_finished_runs_are_not_overwritten(demo, capsys):
    demos, out = str(demo[0] / "seed-0" / "demos"), str(demo[0] / "seed-0" / "bc")
    assert main(["train", "bc", "--data", demos, "--out", out]) == FAILED
    assert "--force" in capsys.readouterr().err


def test_the_command_line_evaluates_as_the_demo_does(demo, here, tmp_path):
    turn, out = demo[0] / "seed-0", tmp_path / "e"
    command = ["evaluate", "--policy", str(turn / "bc"), "--episodes", "2", "--out", str(out)]
    assert main([*command, "--workers", "1", "videos=0", "env.horizon=60"]) == OK
    rows = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    before = json.loads((turn / "bc-eval" / "summary.json").read_text())
    assert [int(row["success"]) for row in rows] == before["outcomes"]
    assert sum(row["steps"] for row in rows) / 2 == before["mean_steps"]


def test_force_replaces_a_demo_and_nothing_else(tmp_path, monkeypatch, capsys):
    from robostack import demo as ring
    from robostack import report

    monkeypatch.setattr(ring, "run", lambda config, out, *_: {"left": out.exists()})
    monkeypatch.setattr(report, "write", lambda run, out: out)
    (tmp_path / "old" / "seed-0").mkdir(parents=True)
    assert main(["demo", "--force", "--out", str(tmp_path / "old")]) == OK
    assert '"left": false' in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    assert main(["demo", "--force", "--out", str(tmp_path / "mine")]) == FAILED
    assert (tmp_path / "mine").is_dir() and "not a demo" in capsys.readouterr().err


def helped(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == OK
    return capsys.readouterr().out


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example(name, capsys):
    assert f"robostack {name}" in helped(capsys, *name.split()).split("example:\n")[1]


def test_help_of_all_verbs_names_each_and_says_what_it_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    told = " ".join(helped(capsys).split())
    for name, verb in VERBS.items():
        group, _, what = name.partition(" ")
        assert group in told
        if what:
            told_of_group = " ".join(helped(capsys, group).split())
            assert f"{what} {verb.summary}" in told_of_group
        else:
            assert f"{group} {verb.summary}" in told


@pytest.mark.parametrize(
    "command, code, words",
    [
        (["collect", "--out", "{tmp}/x", "env.task=Lfit"], FAILED, ["Lfit", "Lift, Stack"]),
        (["collect", "--out", "{tmp}/x", "sedes=3"], USAGE, ["sedes", "did you mean seeds"]),
        (["collect", "--out", "{tmp}/x", "by=branch"], FAILED, ["--policy"]),
        (["train", "bc", "--data", "{tmp}/no", "--out", "{tmp}/x"], FAILED, ["not an episode"]),
        (["evaluate", "--policy", "{tmp}/no", "--out", "{tmp}/x"], FAILED, ["holds no policy"]),
        (["report", "--data", "{tmp}", "--out", "{tmp}/r.html"], FAILED, ["no finished demo"]),
        (["score", "--data", "{tmp}", "--reward", "{tmp}/r"], FAILED, ["holds no reward"]),
    ],
)
def test_mistakes_get_one_clear_line(command, code, words, tmp_path, capsys):
    assert main([part.format(tmp=tmp_path) for part in command]) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message and all(word in message for word in words)


def test_an_unknown_camera_is_named_with_the_valid_ones(tmp_path, capsys):
    command = ["collect", "--out", str(tmp_path / "x"), "--workers", "1", "seeds=1"]
    assert main([*command, "env.cameras.frnot=32"]) == FAILED
    message = capsys.readouterr().err
    assert "frnot" in message and "agentview" in message


def test_a_policy_of_other_cameras_is_refused(demo, here, tmp_path, capsys):
    policy = str(demo[0] / "seed-0" / "bc")
    command = ["evaluate", "--policy", policy, "--out", str(tmp_path / "e"), "--workers", "1"]
    assert main([*command, "env.cameras.agentview=48", "episodes=1"]) == FAILED
    assert "cameras" in capsys.readouterr().err
