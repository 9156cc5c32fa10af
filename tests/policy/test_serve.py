"""A served policy is the policy itself: same actions, for many clients at once."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, LineEnv, tiny_vla
from serving import FLAT, SEEN, lone, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve as foreign_server

from robostack import cli
from robostack.policy import wire
from robostack.policy.checkpoint import fingerprint
from robostack.policy.chunking import ChunkRunner
from robostack.policy.client import RemoteError, RemotePolicy
from robostack.policy.serve import ServeConfig, is_local, read_token
from robostack.rollout import rollout
from robostack.testing import check_policy
from robostack.types import SpecMismatch


@pytest.fixture(scope="module")
def served():
    with serving() as found:
        yield found


@pytest.fixture
def remote(served):
    with RemotePolicy(served.url) as policy:
        yield policy


def same(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second))


def test_it_is_a_policy(remote):
    assert remote.spec == SPEC and remote.horizon == 4
    check_policy(remote, LineEnv())


@pytest.mark.parametrize("execute", [1, 3, 4])
def test_a_rollout_over_the_network_is_the_local_rollout_bit_for_bit(served, execute):
    with RemotePolicy(served.url, execute=execute) as remote:
        for seed in (0, 7):
            for policy_seed in (seed, 2**32 - 1):
                near, far = (
                    rollout(LineEnv(), policy, seed, policy_seed=policy_seed, max_steps=9)
                    for policy in (ChunkRunner(tiny_vla(), execute), remote)
                )
                assert np.array_equal(near.actions, far.actions)
                assert np.array_equal(near.states, far.states)


def test_real_time_chunking_over_the_network_is_the_local_one(remote):
    runner = ChunkRunner(tiny_vla(), 4)
    before = runner.plan(SEEN)
    for previous, delay in ((before, 0), (before[1:], 2), (before[:2], 1)):
        runner.reset(5)
        remote.reset(5)
        far = remote.plan(SEEN, previous, delay)
        assert np.array_equal(runner.plan(SEEN, previous, delay), far)


def test_the_sampler_is_the_servers():
    sampling = {"steps": 2, "level": 0.7, "temperature": 0.5}
    with serving(**sampling) as served, RemotePolicy(served.url) as remote:
        local = ChunkRunner(tiny_vla(), 4, **sampling)
        for policy in (local, remote):
            policy.reset(3)
        assert {name: getattr(remote, name) for name in sampling} == sampling
        assert same([local.act(SEEN) for _ in range(3)], [remote.act(SEEN) for _ in range(3)])


def test_the_unchanged_client_of_openpi_gets_the_same_actions(served):
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    theirs = client.WebsocketClientPolicy(*served.address())
    assert theirs.get_server_metadata()["spec"]["control_hz"] == SPEC.control_hz
    double = FLAT | {"observation/state": SEEN.state.astype(np.float64)}
    answers = [theirs.infer(asked) for asked in (FLAT, double, {"observation": FLAT})]
    assert same([a["actions"] for a in answers], lone())
    assert answers[1]["server_timing"]["prev_total_ms"] > answers[0]["server_timing"]["infer_ms"]
    # openpi's broker cuts every array of an answer along the chunk
    assert [k for k, v in answers[0].items() if isinstance(v, np.ndarray)] == ["actions"]
    with pytest.raises(RuntimeError, match="observation/joints"):
        theirs.infer(FLAT | {"observation/joints": SEEN.state})
    assert theirs.infer({"reset": 6}) == {"reset": 6}
    assert np.array_equal(theirs.infer(FLAT)["actions"], lone(seed=6)[0])


def test_the_stamp_of_an_observation_comes_back_with_the_time_between_rows(served):
    with connect(f"{served.url}", compression=None) as socket:
        socket.recv()
        for stamp in (12.25, None):
            socket.send(wire.pack(FLAT | ({} if stamp is None else {"stamp": stamp})))
            answer = wire.unpack(socket.recv())
            assert answer["stamp"] == stamp and answer["step_s"] == 1 / SPEC.control_hz


def test_compressed_pictures_give_the_actions_of_the_compressed_pictures(served):
    picture = SEEN.images["top"]
    seen = wire.decode_jpeg(wire.encode_jpeg(picture, 60), picture.shape[:2], "top")
    assert not np.array_equal(seen, picture)
    with RemotePolicy(served.url, jpeg_quality=60) as remote:
        assert np.array_equal(
            remote.act(SEEN), ChunkRunner(tiny_vla(), 4).act(replace(SEEN, images={"top": seen}))
        )


def test_clients_at_once_do_not_disturb_each_others_draws(served):
    found = {}

    def work(seed):
        with RemotePolicy(served.url) as remote:
            remote.reset(seed)
            found[seed] = [remote.plan(SEEN) for _ in range(8)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(same(found[seed], lone(seed, 8)) for seed in range(4))


def test_a_client_that_asks_without_waiting_does_not_keep_others_waiting():
    with serving(steps=60) as served, connect(served.url, close_timeout=0) as greedy:
        greedy.recv()
        data = wire.pack(FLAT)
        for _ in range(10):
            greedy.send(data)
        served.wait(lambda server: server.metrics.in_flight == 1)
        with RemotePolicy(served.url) as remote:
            before = served.server.metrics.requests
            remote.plan(SEEN)
            assert served.server.metrics.requests - before <= 4  # ours among them


@pytest.mark.slow
def test_health_is_told_while_the_policy_thinks():
    with serving(steps=1000) as served, RemotePolicy(served.url) as remote:
        thread = threading.Thread(target=remote.plan, args=(SEEN,))
        thread.start()
        served.wait(lambda server: server.metrics.in_flight == 1)
        assert served.get("/healthz") == (200, "OK\n")
        assert "robostack_in_flight 1" in served.get("/metrics")[1]
        assert served.server.metrics.in_flight == 1 and thread.is_alive()
        thread.join(60)


def test_metrics_count_what_happened():
    def numbers():
        rows = served.get("/metrics")[1].splitlines()
        return {k: float(v) for k, v in (r.rsplit(" ", 1) for r in rows if not r.startswith("#"))}

    with serving() as served:
        with RemotePolicy(served.url) as remote:
            for _ in range(3):
                remote.plan(SEEN)
            with pytest.raises(RemoteError, match="state: expected"):
                remote.plan(replace(SEEN, state=SEEN.state[:1]))
            found = numbers()
        assert found["robostack_requests_total"] == found["robostack_total_seconds_count"] == 4
        assert found["robostack_infer_seconds_count"] == 3
        assert found['robostack_infer_seconds_bucket{le="+Inf"}'] == 3
        assert 0 < found["robostack_infer_seconds_sum"] < found["robostack_total_seconds_sum"]
        assert found['robostack_errors_total{kind="message"}'] == 1
        assert found["robostack_clients"] == 1 and found["robostack_in_flight"] == 0
        assert found["robostack_received_bytes_total"] > 4 * SEEN.images["top"].nbytes
        buckets = [v for k, v in found.items() if k.startswith("robostack_total_seconds_bucket")]
        assert buckets == sorted(buckets)
        served.wait(lambda server: numbers()["robostack_clients"] == 0)


def test_without_the_token_nothing_is_told_but_health():
    with serving(token="open-sesame") as served:
        assert served.get("/healthz") == (200, "OK\n")
        for headers in (
            {},
            {"Authorization": "Api-Key wrong"},
            {"Authorization": "Api-Key"},
            {"Authorization": "Basic open-sesame"},
            {"Authorization": "open-sesame"},
            {"Authorization": "Api-Key open-sesame\xff"},
        ):
            for path in ("/metrics", "/"):
                assert served.get(path, **headers)[0] == 401, headers
        for scheme in ("Api-Key", "Bearer", "bearer"):
            assert served.get("/metrics", Authorization=f"{scheme} open-sesame")[0] == 200
        assert 'kind="unauthorised"} 12' in served.server.metrics.text(0)
        for token, told in (("", "wants a token"), ("wrong", "refuses this token")):
            with pytest.raises(RemoteError, match=f"{told} .401.*ROBOSTACK_TOKEN"):
                RemotePolicy(served.url, token=token)
        with RemotePolicy(served.url, token="open-sesame") as remote:
            assert same([remote.plan(SEEN)], lone(calls=1))


def test_the_token_of_openpis_client_is_understood():
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    with serving(token="open-sesame") as served:
        theirs = client.WebsocketClientPolicy(*served.address(), api_key="open-sesame")
        assert np.array_equal(theirs.infer(FLAT)["actions"], lone()[0])


def test_a_page_in_a_browser_cannot_drive_the_robot(served):
    with pytest.raises(Exception, match="403"):
        connect(served.url, origin="http://evil.example")


def test_other_machines_are_served_with_a_token_only(tmp_path, monkeypatch):
    monkeypatch.delenv("ROBOSTACK_TOKEN", raising=False)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert is_local(host) and read_token(ServeConfig(host=host)) == ""
    for host in ("0.0.0.0", "::", "", "192.168.1.7", "robot.example", "localhost.example"):
        assert not is_local(host)
        with pytest.raises(ValueError, match="token is needed: set ROBOSTACK_TOKEN.*token_file="):
            read_token(ServeConfig(host=host))
    monkeypatch.setenv("ROBOSTACK_TOKEN", "from-outside")
    assert read_token(ServeConfig(host="0.0.0.0")) == "from-outside"
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert read_token(ServeConfig(host="0.0.0.0", token_file=str(file))) == "from-file"
    for text, told in (("\n", "is empty"), ("two words", "ASCII"), ("schlüssel", "ASCII")):
        file.write_text(text)
        with pytest.raises(ValueError, match=told):
            read_token(ServeConfig(token_file=str(file)))


def test_one_client_too_many_is_told_so_and_may_come_back():
    with serving(max_clients=2) as served:
        with RemotePolicy(served.url), RemotePolicy(served.url) as second:
            with pytest.raises(RemoteError, match="takes 2 clients"):
                RemotePolicy(served.url)
            second.close()
            served.wait(lambda server: "robostack_clients 1" in served.get("/metrics")[1])
            with RemotePolicy(served.url) as third:
                assert same([third.plan(SEEN)], lone(calls=1))


def test_a_silent_client_is_let_go_and_connects_again_by_itself(capsys):
    with serving(idle_timeout_s=0.2) as served, RemotePolicy(served.url) as remote:
        remote.reset(4)
        first = remote.plan(SEEN)
        served.wait(lambda server: server.metrics.errors["idle"] == 1)
        assert np.array_equal(remote.plan(SEEN), first)  # the draws of seed 4 begin anew
    told = capsys.readouterr().err
    assert "silent for 0.2 s" in told and "connected again" in told and "seed 4" in told


def test_another_policy_behind_the_address_is_noticed():
    with serving() as served:
        remote = RemotePolicy(served.url)
        remote.plan(SEEN)
    with serving(print_of_weights="beef", port=served.address()[1]), remote:
        with pytest.raises(RemoteError, match="serves another policy now"):
            remote.plan(SEEN)


def test_a_late_answer_is_not_taken_for_the_next_one(capsys):
    with serving(steps=300) as served, RemotePolicy(served.url) as remote:
        truth = remote.plan(SEEN)
        remote.timeout_s = 0.01
        with pytest.raises(RemoteError, match="no answer within timeout_s=0.01"):
            remote.plan(replace(SEEN, task="another"))
        remote.timeout_s = 30.0
        assert np.array_equal(remote.plan(SEEN), truth)
        assert "connected again" in capsys.readouterr().err


def test_a_policy_that_fails_tells_why_and_goes_on():
    vla = tiny_vla()
    with serving(vla) as served, RemotePolicy(served.url) as remote:
        good = vla.expert.action_out.bias.detach().clone()
        with torch.no_grad():
            vla.expert.action_out.bias[0] = torch.nan
        with pytest.raises(RemoteError, match="refused: .*not finite"):
            remote.plan(SEEN)
        with torch.no_grad():
            vla.expert.action_out.bias.copy_(good)
        remote.reset(0)
        assert same([remote.plan(SEEN)], lone(calls=1))
        assert served.server.metrics.errors["policy"] == 1


def test_another_robots_policy_is_refused_by_name(served):
    with pytest.raises(SpecMismatch, match="control_hz: the policy at ws://.* has 10.0.*has 20"):
        RemotePolicy(served.url, spec=replace(SPEC, control_hz=20.0))
    other = replace(SPEC, conventions=SPEC.conventions | {"gripper": "+1 opens"})
    with pytest.raises(SpecMismatch, match="conventions"):
        RemotePolicy(served.url, spec=other)
    RemotePolicy(served.url, spec=other, may_differ=("gripper",)).close()


def test_a_client_says_what_is_wrong_with_an_address(served):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RemoteError, match="no policy server answers at .*robostack serve"):
            RemotePolicy(url, timeout_s=0.3)
    for url in ("127.0.0.1:8000", "http://127.0.0.1:8000", "ws://", "ws://host:port"):
        with pytest.raises(ValueError, match="expected an address such as"):
            RemotePolicy(url, timeout_s=0.3)
    for keys in ({"execute": 5}, {"execute": -1}, {"jpeg_quality": 101}):
        with pytest.raises(ValueError, match=next(iter(keys))):
            RemotePolicy(served.url, **keys)


@pytest.mark.parametrize(
    "greeting, told",
    [
        (wire.pack({"protocol": wire.PROTOCOL + 1}), "speaks protocol 2, this client 1"),
        (wire.pack({}), "speaks protocol none of ours"),  # openpi's own server
        (wire.pack({"protocol": wire.PROTOCOL, "spec": {}}), "says too little"),
        (b"\xc1", "nonsense"),
        ("hello", "refused: hello"),
    ],
)
def test_a_server_that_is_none_of_ours_is_recognised(greeting, told):
    with foreign_server(lambda socket: socket.send(greeting), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = "ws://127.0.0.1:{1}".format(*server.socket.getsockname())
        with pytest.raises(RemoteError, match=told):
            RemotePolicy(url, timeout_s=5)
        server.shutdown()


@pytest.mark.parametrize(
    "keys, told",
    [
        ({"port": 70_000}, "port=70000"),
        ({"steps": 0}, "steps=0"),
        ({"level": -1.0}, "level"),
        ({"temperature": -1.0}, "temperature"),
        ({"idle_timeout_s": 0.0}, "idle_timeout_s"),
        ({"max_clients": 0}, "max_clients=0"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(ValueError, match=told):
        ServeConfig(**keys)


def test_the_command_serves_until_it_is_told_to_stop(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ROBOSTACK_TOKEN", raising=False)
    tiny_vla().save(tmp_path / "bc" / "policy")
    command = ["serve", "--policy", str(tmp_path / "bc")]
    assert cli.main([*command, "host=0.0.0.0"]) == 1
    assert "token" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = {}

    def work(number):
        with RemotePolicy(f"ws://127.0.0.1:{port}", token="") as remote:
            found[number] = (remote.act(SEEN), remote.fingerprint)
            os.kill(os.getpid(), number)
            with pytest.raises(ConnectionClosed):  # it says goodbye
                remote._socket.recv(10)

    for number in (signal.SIGINT, signal.SIGTERM):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        assert cli.main([*command, f"port={port}"]) == 0
        thread.join(20)
        told = capsys.readouterr().out
        assert (
            f"serving bc for fake (top 16x16; 4 actions at 10 Hz) on ws://127.0.0.1:{port}" in told
        )
        assert np.array_equal(found[number][0], lone()[0])
        assert found[number][1] == fingerprint(tmp_path / "bc" / "policy")


def test_a_client_costs_no_torch_and_says_how_to_install_what_is_missing():
    heavy = "import sys, robostack.policy.client; print('torch' in sys.modules)"
    lacking = "import sys; sys.modules['{}'] = None; import robostack.policy.client"
    for code, told in [(heavy, "False")] + [
        (lacking.format(name), f"needs {name}.*pip install 'robostack.serve.'")
        for name in ("msgpack", "websockets")
    ]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert re.search(told, done.stdout + done.stderr), done.stderr
