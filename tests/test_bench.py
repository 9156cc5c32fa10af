"""The benchmarks that make evidence still run, on tiny settings, and go on where they were."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "bench"))

import cells  # noqa: E402
import dataset_read  # noqa: E402
import dpo_arms  # noqa: E402
import dpo_gain  # noqa: E402
import evaluation_speed  # noqa: E402
import outcomes  # noqa: E402
import reward_exam  # noqa: E402
import rl_rollouts  # noqa: E402
import shared_cores  # noqa: E402

from robostack.learn.bc import BCConfig  # noqa: E402
from robostack.learn.reward import RewardConfig  # noqa: E402
from robostack.learn.run import finished  # noqa: E402
from robostack.policy.backbone import SmallConfig  # noqa: E402
from robostack.policy.expert import ExpertConfig  # noqa: E402
from robostack.policy.vla import VLA, VLAConfig  # noqa: E402
from robostack.rewards.eye import EyeConfig  # noqa: E402
from robostack.sim.arena import Arena, BranchConfig  # noqa: E402
from robostack.sim.env import EnvConfig  # noqa: E402

POLICY = VLAConfig(small=SmallConfig(width=32, layers=1, heads=2), expert=ExpertConfig(width=32))
LITTLE = {  # what the benches make of everything, in their own process
    "Arena": partial(Arena, workers=1),
    "EnvConfig": partial(EnvConfig, cameras={"agentview": 32}, horizon=60),
    "BCConfig": partial(BCConfig, policy=POLICY, batch=4, draws=2),
    "RewardConfig": partial(RewardConfig, eye=EyeConfig(side=16, width=16)),
}
TRIES = BranchConfig(tries=3, points=2, every=4, span=4, spread=0.5)
TINY = dpo_arms.Setting(2, 4, TRIES, starts=1, keep=1.0, seeds=1)


def make_little(monkeypatch, bench, *names):
    for name in names:
        monkeypatch.setattr(bench, name, LITTLE[name])


@pytest.fixture
def small(monkeypatch):
    make_little(monkeypatch, dpo_gain, "Arena", "BCConfig", "RewardConfig")
    make_little(monkeypatch, cells, "BCConfig", "EnvConfig")
    monkeypatch.setitem(dpo_gain.TASKS, "Lift", TINY)
    monkeypatch.setattr(dpo_gain, "DPO", replace(dpo_gain.DPO, steps=2, batch=2, draws=1))
    monkeypatch.setattr(dpo_gain, "REWARD_STEPS", 2)
    monkeypatch.setattr(dpo_gain, "GUIDE_STEPS", 2)
    monkeypatch.setattr(dpo_gain, "LOOKS", 3)
    # nothing succeeds here
    monkeypatch.setattr(dpo_gain, "TOLD", {"weights": {"outcome": 1.0, "keypoints": 1.0}})


@pytest.mark.slow
def test_every_arm_is_played_once_and_told_with_its_interval(small, tmp_path, monkeypatch, capsys):
    words = ["dpo_gain.py", "--out", str(tmp_path), "--task", "Lift", "--episodes", "2"]
    record = tmp_path / "told" / "dpo.jsonl"
    words += ["--record", str(record)]
    arms = [*dpo_arms.MAIN, *dpo_arms.INFERENCE, *dpo_arms.CONTROLS, "led"]
    told_to = [word for arm in arms for word in ("--arm", arm)]
    monkeypatch.setattr(sys, "argv", [*words, *told_to])
    dpo_gain.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["task"] == "Lift" and told["episodes"] == 2 and told["seeds"] == 1
    assert set(told["arms"]) == set(arms)
    for arm in told["arms"].values():
        low, high = arm["gain_ci95"]
        assert low <= arm["gain"] <= high and len(arm["by_seed"]) == 1
    assert told["gain"] == told["arms"]["dpo"]["gain"]
    for name in ("dpo best of 8", *dpo_arms.INFERENCE):
        arm = told["arms"][name]
        assert arm["chunk_ms"] > 0 and arm["plain_chunk_ms"] > 0  # which is longer is noise here
        low, high = arm["over_acting_ci95"]
        assert low <= arm["over_acting"] <= high
    lines = outcomes.read(record)
    assert [line.arm for line in lines] == arms
    size = record.stat().st_size
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    assert len(made) > 10
    dpo_gain.main()
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert untimed(again) == untimed(told)
    assert record.stat().st_size == size  # what was not played anew is not told anew
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == made
    monkeypatch.setitem(dpo_gain.TASKS, "Lift", replace(TINY, keep=0.5))
    with pytest.raises(ValueError, match="dpo.jsonl was made with .* and dpo asks for"):
        dpo_gain.main()


def untimed(told):
    return [{k: v for k, v in arm.items() if "_ms" not in k} for arm in told["arms"].values()]


@pytest.mark.parametrize("bench", [dpo_gain, rl_rollouts])
def test_quick_is_one_cell_and_says_so_to_who_names_others(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--task", "Lift", "--seed", "1"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "leave --task, --seed out, or --quick" in capsys.readouterr().err


def test_cameras_that_are_none_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rl_rollouts.py", "--cameras", "sideview"])
    with pytest.raises(SystemExit):
        rl_rollouts.main()
    assert "--cameras: expected name=pixels, with commas between, got 'sideview'" in (
        capsys.readouterr().err
    )


def test_a_temperature_that_is_none_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dpo_gain.py", "--temperature", "-1"])
    with pytest.raises(SystemExit):
        dpo_gain.main()
    assert "--temperature: temperature=-1: expected 0" in capsys.readouterr().err


def test_a_camera_that_the_scene_lacks_is_told_in_a_line(tmp_path, monkeypatch):
    words = ["--task", "Lift", "--seed", "0", "--cameras", "ceiling=64", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["tests/bench/rl_rollouts.py", *words])
    with pytest.raises(SystemExit) as told:
        cells.ended(rl_rollouts.main)
    said = str(told.value)
    assert said.startswith("rl_rollouts.py: ") and "agentview" in said
    assert "unknown camera 'ceiling'; this scene has" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", list(dpo_gain.ARMS))
def test_every_arm_differs_from_the_main_one_in_settings_that_exist(name):
    arm = dpo_gain.ARMS[name]
    replace(dpo_gain.PreferConfig(), **(arm.prefer or {}))
    replace(dpo_gain.DPO, **(arm.learn or {}))
    assert arm.acts in ("", "bc", *dpo_gain.ARMS) and (arm.best_of > 1) == bool(arm.judge)
    assert arm.guide in ("", *dpo_gain.ARMS) and bool(arm.judge or arm.guide) == bool(arm.acts)
    assert arm.start in ("bc", *dpo_gain.ARMS)


@pytest.mark.slow
def test_rewards_are_examined_from_nothing_and_told_in_the_promised_form(
    tmp_path, monkeypatch, capsys
):
    part = reward_exam.Part(
        ("Lift",), 1, 1, {"progress": 2}, side=16, points=1, kinds=("progress", "keypoints")
    )
    adapt = reward_exam.Adapt("Stack", steps=1, exam=1)
    pictures = reward_exam.Pictures(("Lift",), exam=1, side=128)
    tiny = reward_exam.Scale({"robosuite": part}, adapt, pictures, draws=10, shifts=(), pixels=16)
    monkeypatch.setattr(reward_exam, "QUICK", tiny)
    make_little(monkeypatch, reward_exam, "Arena")
    words = ["reward_exam.py", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    reward_exam.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["modules"]
    assert set(told) == {"clock", "progress", "keypoint"}
    for module in told.values():
        assert {"voc", "voc_reversed", "voc_shuffled", "kendall_tau", "success_auc"} <= set(module)
        assert module["kendall_tau"] == module["kendall"] and module["success_auc"] == module["auc"]
        assert list(module["by_data"]) == ["Lift"]
        assert module["by_data"]["Lift"]["kendall_tau"] == module["kendall_tau"]
    assert told["clock"]["voc_reversed"] == 1 and told["keypoint"]["kendall_tau"] == 1
    assert set(told["progress"]["adapted"]) == {"before", "after"}
    assert {"voc", "kendall_tau"} <= set(told["progress"]["adapted"]["after"])
    seen = told["keypoint"]["from_pictures"]["Lift"]
    assert seen["judged"] == 1 and seen["voc"] > 0.8 and seen["ms_live"] > 0
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    reward_exam.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["modules"].keys() == told.keys()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == made


@pytest.mark.parametrize("scale", [reward_exam.FULL, reward_exam.QUICK])
def test_every_part_of_the_rewards_exam_has_settings_that_exist(scale):
    assert scale.parts["robosuite"].kinds == (*reward_exam.KINDS, *reward_exam.COMPOSED)
    for part in scale.parts.values():
        for kind in part.kinds:
            assert reward_exam.learned(part, kind).kind == kind
        assert part.exam >= 5 and set(scale.shifts) <= set(reward_exam.SHIFTS)


@pytest.mark.slow
def test_all_formats_are_read_and_hold_the_same_pictures(monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    words = ["--episodes", "2", "--pixels", "32", "--seconds", "0.1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["dataset_read.py", *words, "--processes", "1"])
    dataset_read.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    for way in ("ours", "zarr_python", "hdf5", "mp4", "memmap"):
        assert told[f"{way}_per_s"] > 0
    assert told["loader_per_s"].keys() == {"1"} and told["loader_per_s"]["1"] > 0
    assert told["ours_per_cpu_s"] > 2 * told["zarr_python_per_cpu_s"]


@pytest.mark.slow
def test_updates_are_measured_on_free_and_on_busy_cores(monkeypatch, capsys):
    assert shared_cores.update_ms(batch=2, updates=1) > 0
    alone = {"ours": 100.0, "torch": 90.0}
    known = {str(way): alone[name] for name, way in shared_cores.WAYS.items()}
    monkeypatch.setattr(shared_cores, "apart", lambda way, words: known[str(way)])
    monkeypatch.setattr(sys, "argv", ["shared_cores.py"])
    shared_cores.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    for cores in ("free", "one_busy"):
        assert told[cores] == {"ours_ms": 100.0, "torch_ms": 90.0, "ratio": 0.9}


@pytest.mark.slow
def test_what_is_not_rendered_changes_no_episode(monkeypatch, capsys):
    words = ["evaluation_speed.py", "--tasks", "Lift", "--episodes", "1", "--horizon", "20"]
    monkeypatch.setattr(sys, "argv", words)
    assert evaluation_speed.main() == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["same"] and row["ratio"] > 0


@pytest.mark.slow
def test_arms_of_practice_are_played_once_and_told_by_rollouts(tmp_path, monkeypatch, capsys):
    tiny = rl_rollouts.Setting(2, 2, seeds=1, iterations=2, episodes=2)
    monkeypatch.setitem(rl_rollouts.TASKS, "Lift", tiny)
    few = {"updates": 1, "batch": 2, "draws": 1, "critic_updates": 1}
    arms = {"ppo": few | {"algorithm": "ppo"}, "led-longer": few}
    monkeypatch.setattr(rl_rollouts, "ARMS", arms)
    make_little(monkeypatch, rl_rollouts, "Arena", "BCConfig")
    make_little(monkeypatch, cells, "BCConfig", "EnvConfig")
    words = ["rl_rollouts.py", "--out", str(tmp_path), "--task", "Lift", "--episodes", "2"]
    words += ["--seed", "0", "--points", "3", "--record", str(tmp_path / "rl.jsonl")]
    words += ["--cameras", "sideview=32,agentview=16"]
    monkeypatch.setattr(sys, "argv", [*words, "--arm", "ppo", "--curve"])
    rl_rollouts.main()
    lines = outcomes.read(tmp_path / "rl.jsonl")
    assert [(line.rollouts, line.points) for line in lines] == [(2, 3), (4, 3)]
    assert {line.cameras for line in lines} == {"agentview=16,sideview=32"}
    assert "`ppo`, 3 heat maps (agentview=16,sideview=32), 4 rollouts, 0 |" in outcomes.table(lines)
    cloned = VLA.load(tmp_path / "Lift" / "seed-0" / "bc" / "policy")
    assert cloned.config.small == replace(POLICY.small, points=3)
    capsys.readouterr()
    told = json.loads((tmp_path / "Lift.json").read_text())
    assert list(told["arms"]["ppo"]) == ["2", "4"]
    for point in told["arms"]["ppo"].values():
        assert point["gain_ci95"][0] <= point["gain"] <= point["gain_ci95"][1]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    monkeypatch.setattr(sys, "argv", [*words, "--arm", "ppo"])
    rl_rollouts.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rollouts"] == 4 and told["success_rate"] <= 1 and told["ci95"][0] >= 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == made
    monkeypatch.setattr(sys, "argv", [*words, "--arm", rl_rollouts.CEILING])
    rl_rollouts.main()
    folder = tmp_path / "Lift" / "seed-0"
    assert finished(folder / "more-demos")["episodes"] == 4  # as many as rollouts
    assert (
        json.loads((folder / rl_rollouts.CEILING / "run.json").read_text())["config"]["steps"] == 2
    )


def test_outcomes_add_up_to_a_table_and_the_latest_of_a_seed_counts(tmp_path, monkeypatch, capsys):
    file = tmp_path / "told" / "rl.jsonl"
    for seed, before, after in ((0, "0000", "1111"), (0, "0001", "1101"), (0, "0001", "1101"),
                                (1, "1100", "0011")):  # fmt: skip
        outcomes.write(file, outcomes.Line("Lift", "led", seed, 150, before, after))
    outcomes.write(file, outcomes.Line("Stack", "sparse", 0, 0, "10", "00"))
    outcomes.write(file, outcomes.Line("Stack", "sparse", 0, 0, "10", "11", 32))
    outcomes.write(file, outcomes.Line("Stack", "sparse", 0, 0, "10", "01", 32, temperature=0.5))
    assert len(file.read_text().splitlines()) == 6
    monkeypatch.setattr(sys, "argv", ["outcomes.py", str(file)])
    outcomes.main()
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        *("Lift, `led`, 150 rollouts, 0", "Lift, `led`, 150 rollouts, 1"),
        *("**Lift, `led`, 150 rollouts, all**", "Stack, `sparse`, 0"),
        "Stack, `sparse`, 32 heat maps, 0",  # another policy, and so another row
        "Stack, `sparse`, 32 heat maps, temperature 0.5, 0",
    ]
    assert [row[1:3] for row in rows] == [
        ["4", "25 %"],
        ["4", "50 %"],
        ["8", "37.5 %"],
        ["2", "50 %"],
        ["2", "50 %"],
        ["2", "50 %"],
    ]
    low, high = (f"{100 * x:.1f}" for x in outcomes.wilson(5, 8))
    assert rows[2][3] == f"62.5 % [{low}, {high}]" and rows[2][4].startswith("+25 [")
    monkeypatch.setattr(sys, "argv", ["outcomes.py", str(tmp_path / "none.jsonl")])
    with pytest.raises(SystemExit):
        outcomes.main()
    assert "--record FILE" in capsys.readouterr().err


@pytest.mark.parametrize("file, page", [("rl.jsonl", "rl.md"), ("dpo.jsonl", "preferences.md")])
def test_the_tables_of_the_documentation_are_those_of_the_outcomes(file, page):
    docs = Path(__file__).parents[1] / "docs"
    lines = outcomes.read(docs / "outcomes" / file)
    assert not lines or outcomes.table(lines) in (docs / page).read_text()


@pytest.mark.parametrize("name", list(rl_rollouts.ARMS))
def test_every_arm_of_practice_has_settings_that_exist(name, tmp_path):
    cell = rl_rollouts.Cell(None, "Lift", 0, 2, tmp_path, cells.Manner())
    config = cell.config(name)
    assert config.way().once == (config.rl.algorithm in ("ppo", "grpo", "nft"))
