"""Two real processes on CPUs learn what one does, sharded or not, resumed or not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import vlms
from fakes import SPEC

from robostack.data.store import Store
from robostack.learn.run import finished
from robostack.policy.vla import VLA

sys.path.append(str(Path(__file__).parent))

import together  # noqa: E402

pytestmark = pytest.mark.slow
ROUNDING = 2e-5  # of sums in another order, after six updates


def launch(*command):
    """Two processes; returns what became of their launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return started([*launcher, *command])


def started(command):
    words = [str(word) for word in command]
    on_cpus = os.environ | {"ROBOSTACK_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=on_cpus)


def apart(a, b, share=1.0):
    """The largest difference of two weights, of this share of each tensor's."""
    own = b.state_dict()
    away = {k: (v - own[k]).abs().float().flatten() for k, v in a.state_dict().items()}
    return max(float(each.quantile(share)) for each in away.values() if len(each))


def policy(run):
    return VLA.load(run / "policy")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Everything that `together.main` makes in two processes, and the same of one."""
    folder = tmp_path_factory.mktemp("together")
    vlms.save("qwen2_5_vl", folder / "vlm")
    done = launch(together.__file__, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    together.clone(folder / "bc-alone", together.Compute())
    together.clone(folder / "bc-layers-alone", together.Compute(), together.layered())
    together.prefer(folder / "dpo-alone", together.Compute())
    for kind in ("lora", "full"):
        together.train_pretrained(folder / f"{kind}-alone", together.Compute(), kind)
    return folder


@pytest.mark.parametrize(
    "name, alone",
    [
        ("bc", "bc-alone"),
        ("bc-shards", "bc-alone"),
        ("bc-layers", "bc-layers-alone"),
        ("dpo", "dpo-alone"),
        ("dpo-shards", "dpo-alone"),
        ("lora", "lora-alone"),
        ("lora-shards", "lora-alone"),
        ("full", "full-alone"),
        ("full-shards", "full-alone"),
    ],
)
def test_two_processes_learn_what_one_does(out, name, alone):
    ours, theirs = policy(out / name), policy(out / alone)
    assert 0 < apart(ours, theirs, 0.999) < ROUNDING
    assert apart(ours, theirs) < 5 * ROUNDING  # of single weights, whose gradient is next to none
    rows = [
        [json.loads(line) for line in (out / run / "metrics.jsonl").read_text().splitlines()]
        for run in (name, alone)
    ]
    assert len(rows[0]) == len(rows[1]) in (3, 6)  # one process writes
    # convolutions of a single picture have kernels of their own, which round to about 1e-4
    assert rows[0][0] == pytest.approx(rows[1][0], rel=3e-4, abs=1e-6)
    for ours, theirs in zip(*rows):  # Adam makes rounding large where a gradient is next to nothing
        assert ours == pytest.approx(theirs, rel=0.05, abs=1e-5)


def test_gradients_reach_layers_through_what_they_hand_out_past_their_output(out):
    together.teach_keys(out / "keys-alone.json", together.Compute())
    ours, theirs = (json.loads((out / f"keys{k}.json").read_text()) for k in ("", "-alone"))
    assert ours[-1]["loss"] < ours[0]["loss"]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("kind", ["", "-shards"])
def test_resumed_by_as_many_processes_nothing_differs(out, kind):
    assert apart(policy(out / f"resumed{kind}"), policy(out / f"bc{kind}")) == 0
    assert not list((out / f"resumed{kind}").glob("resume.*"))


@pytest.mark.parametrize("kind", ["", "-shards"])
def test_what_two_processes_began_one_can_finish(out, kind):
    run = out / f"resumed-alone{kind}"
    assert finished(run) is None and (run / "resume.3.safetensors").is_file()
    alone = together.clone(run, together.SHARDS if kind else together.PIECES)
    assert apart(alone, policy(out / "bc-alone")) < ROUNDING


def test_the_command_line_works_under_accelerate_and_speaks_once(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    for episode in together.EPISODES.values():
        store.append(episode)
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    verb = ["-m", "robostack.cli", "train", "bc", "--data", tmp_path / "store"]
    keys = ["steps=2", "batch=4", "draws=1"]
    done = started([sys.executable, *launcher, *verb, "--out", tmp_path / "run", *keys])
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == finished(tmp_path / "run")
    policy(tmp_path / "run")


def test_an_error_of_one_process_ends_all(tmp_path):
    code = (
        "import sys; sys.argv[0] = 'x'\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import together\n"
        "from robostack.learn import processes\n"
        "from robostack.learn.learner import Learner\n"
        "true = Learner.step\n"
        "def step(self, losses):\n"
        "    if self.step_count == 2 and not processes.main():\n"
        "        raise OSError('no space left')\n"
        "    return true(self, losses)\n"
        "Learner.step = step\n"
        "from pathlib import Path\n"
        f"together.clone(Path({str(tmp_path / 'run')!r}), together.PIECES)\n"
    )
    script = tmp_path / "one_fails.py"
    script.write_text(code)
    done = launch(script)
    assert done.returncode != 0 and "no space left" in done.stderr
    assert finished(tmp_path / "run") is None
