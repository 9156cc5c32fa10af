"""The verbs about rewards, through the real main: exam, gate, strictness, films, imagination."""

import json
import re
import shlex
from pathlib import Path

import pytest

from robostack.cli import FAILED, OK, USAGE, main

pytestmark = pytest.mark.slow  # real cases, real training, real pages
DOCS = Path(__file__).parents[1] / "docs" / "rewards.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Cases of Lift, a keypoint reward, and a world model that has hardly learned."""
    folder = tmp_path_factory.mktemp("judging")
    cases = [
        "cases", "--out", str(folder / "cases"), "tasks=[Lift]", "seeds=3", "shifts={}",
        "env.pixels=24", "cases.kinds=[success, near miss, failure, hover, try]",
        "cases.tries.points=2", "cases.tries.tries=3", "--workers", "1",
    ]  # fmt: skip
    assert main(cases) == OK
    data = ["--data", str(folder / "cases")]
    for kind, more in (
        ("keypoints", []),
        ("world_model", ["steps=3", "eye.side=16", "eye.width=16", "world_model.kept=64"]),
        ("success", ["steps=3", "eye.side=16", "eye.width=16"]),
    ):
        train = ["train", "reward", *data, "--out", str(folder / kind), f"kind={kind}"]
        assert main([*train, *more]) == OK
    return folder


def exam(runs, *words):
    return main(["exam", "--data", str(runs / "cases"), "draws=20", *words])


def test_an_exam_leaves_its_result_with_the_reward_and_a_page(runs, capsys):
    out = runs / "card"
    assert exam(runs, str(runs / "keypoints"), "--out", str(out)) == OK
    said = capsys.readouterr()
    assert re.search("doubt: keypoints: .*rests on 3 starts, expected 5 or more", said.err)
    aims = json.loads(said.out)["keypoints"]
    assert aims["voc"]["met"] and aims["auc"]["met"] and aims["kendall"]["met"]
    home = json.loads((runs / "keypoints" / "reward" / "exam.json").read_text())
    whole = json.loads((out / "exam.json").read_text())
    assert home["numbers"] == whole["rewards"]["keypoints"]["numbers"]
    page = (out / "index.html").read_text()
    assert "<svg" in page and not re.findall(r"(?:src|href)=[\"']?https?:", page)


def test_a_gate_that_is_not_passed_is_the_exit_code(runs, capsys):
    gate = runs / "gate.yaml"
    gate.write_text("keypoints: {within_spearman: {min: 0.4}, starc: {max: 0.001}}")
    words = [str(runs / "keypoints"), "--out", str(runs / "gated"), "--gate", str(gate)]
    assert exam(runs, *words) == FAILED
    assert "keypoints: starc is" in capsys.readouterr().err


def test_an_exam_of_nothing_says_how_to_name_a_reward(runs, capsys):
    assert exam(runs, "--out", str(runs / "none")) == FAILED
    assert "no reward was named; e.g. robostack exam" in capsys.readouterr().err


def test_a_reward_that_is_not_there_lists_what_could_be_named(runs, capsys):
    assert exam(runs, "progres", "--out", str(runs / "none")) == FAILED
    said = capsys.readouterr().err
    assert "--reward progres holds no reward" in said
    assert "expected keypoints, deviation, the folder of a reward" in said


def test_a_key_that_does_not_exist_is_a_usage_error(runs, capsys):
    assert exam(runs, "keypoints", "--out", str(runs / "none"), "drws=3") == USAGE
    assert "did you mean draws?" in capsys.readouterr().err


def test_learning_from_unexamined_rewards_is_warned_of_and_refused_when_strict(runs, capsys):
    words = ["--data", str(runs / "cases" / "Lift" / "plain"), "--out", str(runs / "pairs.jsonl")]
    reward = ["--reward", str(runs / "world_model"), "weights={world_model.rank: 1}"]
    assert main(["prefer", *words, *reward, "--strict"]) == FAILED
    assert "--strict: world_model has not sat an exam" in capsys.readouterr().err
    assert not (runs / "pairs.jsonl").exists()
    assert main(["prefer", *words, *reward]) == OK
    assert "warning: world_model has not sat an exam" in capsys.readouterr().err


def test_an_exam_elsewhere_counts_where_it_is_named(runs, capsys):
    folder = ["--out", str(runs / "elsewhere"), "keypoints"]
    assert exam(runs, *folder) == OK
    words = ["--data", str(runs / "cases" / "Lift" / "plain"), "--reward", "keypoints"]
    assert main(["score", *words]) == OK
    capsys.readouterr()
    prefer = ["prefer", *words, "--out", str(runs / "p.jsonl"), "weights={keypoints: 1}"]
    assert main([*prefer, "--exam", str(runs / "elsewhere")]) == OK
    assert "has not sat" not in capsys.readouterr().err


def test_a_reward_that_would_have_no_say_is_refused(runs, capsys):
    words = ["--data", str(runs / "cases" / "Lift" / "plain"), "--out", str(runs / "none.jsonl")]
    assert main(["prefer", *words, "--reward", "keypoints"]) == FAILED
    said = capsys.readouterr().err
    assert "--reward keypoints would have no say" in said and "weights name outcome" in said
    assert "weights='{outcome: 1, keypoints: 1}'" in said
    assert not (runs / "none.jsonl").exists()


def test_films_show_every_kind_and_say_why_a_reward_was_not_asked(runs):
    page = runs / "watch.html"
    command = ["watch", "--data", str(runs / "cases"), "--reward", "keypoints"]
    assert main([*command, "--reward", str(runs / "success"), "--out", str(page)]) == OK
    text = page.read_text()
    assert text.count("<video") == 2 * 4 and "data:video/webm;base64," in text
    for kind in ("success", "near miss", "failure", "hover"):
        assert f"lift the red cube: {kind}" in text
    assert "<th>reach<th>grasp<th>lift" in text.replace("</th>", "")


def test_a_film_by_a_camera_that_is_not_there_lists_those_that_are(runs, capsys):
    command = ["watch", "--data", str(runs / "cases"), "--reward", "keypoints", "camera=side"]
    assert main([*command, "--out", str(runs / "x.html")]) == FAILED
    assert "the episode has agentview, robot0_eye_in_hand" in capsys.readouterr().err


def test_imagined_ends_are_shown_beside_real_ones(runs, capsys):
    page = runs / "imagined.html"
    command = ["imagine", "--data", str(runs / "cases"), "--reward", str(runs / "world_model")]
    assert main([*command, "--out", str(page), "states=2"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert len(found["relative_error"]) == 8 and found["chunks"] > 5
    assert page.read_text().count("data:image/png") == 2 * 5


def test_imagining_needs_a_world_model(runs, capsys):
    command = ["imagine", "--data", str(runs / "cases"), "--reward", "keypoints"]
    assert main([*command, "--out", str(runs / "y.html")]) == FAILED
    assert "expected --reward of one world model" in capsys.readouterr().err


def test_a_detector_ends_episodes_of_an_evaluation(runs):
    """The whole way of `runner.stop`, with an expert's data and a detector that hardly learned."""
    from robostack.rewards.load import load_reward
    from robostack.rollout import STOPPED, rollout
    from robostack.sim.env import EnvConfig, ScriptedExpert, make_env

    detector = load_reward(runs / "success")
    detector.threshold.fill_(0.0)  # says stop at once
    env = make_env(EnvConfig(task="Lift", pixels=24))
    try:
        episode = rollout(env, ScriptedExpert(env), 0, stop=detector.watch())
    finally:
        env.close()
    assert len(episode) == detector.config.votes - 1 and episode.label == STOPPED
    assert not episode.terminated and episode.success is False


def test_the_reward_of_the_documentation_fails_first_and_passes_then(runs, capsys, monkeypatch):
    text = DOCS.read_text().split("## Write your own reward")[1]
    code, better = re.findall(r"```python\n(.*?)```", text, re.S)
    gate = re.search(r"```yaml\n(.*?)```", text, re.S).group(1)
    monkeypatch.chdir(runs)
    Path("own.yaml").write_text(gate)
    Path("my_reward.py").write_text(code)
    words = ["my_reward.py:Raised", "--out", "own/mine", "--gate", "own.yaml"]
    assert exam(runs, *words) == FAILED
    assert "raised: voc is" in capsys.readouterr().err
    head, tail = code.split("        height = ")
    Path("my_reward.py").write_text(head + better + "\n    def fing" + tail.split("def fing")[1])
    assert exam(runs, *words) == OK
    # and is learned from as written, on little
    size = ["policy.small={width: 32, layers: 1, heads: 2}", "policy.expert={width: 32}"]
    few = ["seeds=1", "env.pixels=24", "--workers", "1"]
    assert main(["collect", "--out", "own/demos", *few]) == OK
    clone = ["--data", "own/demos", "--out", "own/bc", "steps=1", *size]
    assert main(["train", "bc", *clone]) == OK
    less = {
        "rl": ["rl.iterations=1", "rl.episodes=1", "rl.updates=1", "rl.batch=2", "rl.draws=1"]
        + ["env.pixels=24", "env.horizon=20", "--workers", "1"]
    }
    (block,) = re.findall(r"```bash\n(robostack score.*?)```", text, re.S)
    for line in block.replace("\\\n", " ").replace("runs/lift", "cases").splitlines():
        command = shlex.split(line.replace("runs/", "own/"))[1:]
        capsys.readouterr()
        assert main([*command, *less.get(command[1], [])]) == OK
        said = capsys.readouterr().err
        assert ("warning: raised: it missed" in said) == (command[0] != "score"), said


def test_a_module_without_a_reward_says_what_it_lacks(tmp_path, capsys, runs):
    file = tmp_path / "empty.py"
    file.write_text("class Nothing:\n    name = 'nothing'\n")
    assert exam(runs, f"{file}:Nothing", "--out", str(tmp_path / "o")) == FAILED
    assert "a reward has score, fingerprint, this one has not" in capsys.readouterr().err
    assert exam(runs, f"{tmp_path}/gone.py:Nothing", "--out", str(tmp_path / "o")) == FAILED
    assert "gone.py does not exist" in capsys.readouterr().err
