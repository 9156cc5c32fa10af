"""What was recorded is all there or counted as lost, whatever happens to the recorder."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `data`)")

from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from robostack.real.rates import Rate
from robostack.real.recording import (
    CUSTOM,
    Recording,
    RecordingError,
    Topic,
    free_space,
    leftovers,
    slow,
)

TYPES = get_typestore(Stores.ROS2_JAZZY)
FLOATS, FLAG = "std_msgs/msg/Float64", "std_msgs/msg/Bool"
TOPICS = [Topic("/value", FLOATS, hz=100.0), Topic("/flag", FLAG)]


def packed(value: float) -> bytes:
    message = TYPES.types[FLOATS](data=value)
    return bytes(TYPES.serialize_cdr(message, FLOATS))


def flag(value: bool) -> bytes:
    return bytes(TYPES.serialize_cdr(TYPES.types[FLAG](data=value), FLAG))


def said(bag) -> dict:
    """What a bag says of itself."""
    about = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    return json.loads(about["custom_data"][CUSTOM])


def test_every_message_is_read_back_by_rosbags_and_by_mcap(tmp_path):
    recording = Recording(tmp_path, TOPICS)
    sent = [("/value", 10**18 + 10_000_000 * i, packed(float(i))) for i in range(200)]
    sent.insert(77, ("/flag", 10**18 + 5, flag(True)))
    for message in sent:
        recording.put(*message)
    bag, _ = recording.close({"task": "lift", "success": True})
    assert bag == tmp_path / "000000" and not leftovers(tmp_path)
    with Reader(bag) as reader:
        back = [(c.topic, stamp, bytes(raw)) for c, stamp, raw in reader.messages()]
    assert sorted(back) == sorted(sent)
    values = [TYPES.deserialize_cdr(raw, FLOATS).data for name, _, raw in back if name == "/value"]
    np.testing.assert_array_equal(values, np.arange(200.0))
    with (bag / "000000.mcap").open("rb") as file:  # by the format's own library
        theirs = [(c.topic, m.log_time, m.data) for _, c, m in make_reader(file).iter_messages()]
    assert sorted(theirs) == sorted(sent)
    assert said(bag)["task"] == "lift" and said(bag)["topics"]["/value"]["count"] == 200


def test_put_never_waits_and_what_does_not_fit_is_counted(tmp_path):
    message = packed(1.0)
    recording = Recording(tmp_path, TOPICS, queue=50 * len(message))
    held = threading.Lock()
    write = recording._writer.write

    def stuck(*given):
        with held:
            write(*given)

    recording._writer.write = stuck  # a disk that stalls
    with held:
        for i in range(1000):
            recording.put("/value", i, message)
        waited = recording.tracks["/value"].dropped
        assert 1000 - 51 <= waited <= 950
    bag, problems = recording.close({})
    track = said(bag)["topics"]["/value"]
    assert track["count"] + track["dropped"] == 1000 and track["dropped"] == waited
    assert any("/value: " in p and "dropped" in p for p in problems)
    assert said(bag)["problems"] == problems


def test_the_audit_tells_gaps_and_rates_of_what_is_required(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(Recording, "_now", staticmethod(lambda: clock[0]))
    recording = Recording(tmp_path, TOPICS)
    for i in range(300):
        if i != 200:
            clock[0] += 0.01
        else:
            clock[0] += 1.5
        recording.put("/value", i, packed(0.0))
    bag, problems = recording.close({})
    assert said(bag)["topics"]["/value"]["gap"] == pytest.approx(1.5)
    assert said(bag)["topics"]["/value"]["hz"] == pytest.approx(300 / 4.49, abs=0.1)
    assert problems == [
        "/value: 66.8 Hz, expected 100",
        "/value: nothing for 1.50 s",
    ]  # and nothing of /flag, of which nothing is expected


def test_a_discarded_episode_is_in_the_trash_and_whole(tmp_path):
    first = Recording(tmp_path, TOPICS)
    first.put("/value", 1, packed(3.0))
    assert first.discard() == tmp_path / "trash" / "000000"
    with Reader(tmp_path / "trash" / "000000") as reader:
        assert reader.message_count == 1
    assert Recording(tmp_path, TOPICS).number == "000001"  # a number is never used again


def test_a_killed_recorder_loses_the_unfinished_episode_only(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from robostack.real.recording import Recording, Topic\n"
        f"topics, message = [Topic('/value', {FLOATS!r})], bytes({list(packed(1.0))})\n"
        "while True:\n"
        "    recording = Recording(Path(sys.argv[1]), topics)\n"
        "    for i in range(500): recording.put('/value', i, message)\n"
        "    if recording.number == '000002': print('third', flush=True); time.sleep(60)\n"
        "    recording.close({})\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "third\n"
    child.kill()
    child.wait()
    child.stdout.close()
    for name in ("000000", "000001"):
        with Reader(tmp_path / name) as reader:
            assert reader.message_count == 500
    assert [path.name for path in leftovers(tmp_path)] == ["000002"]
    after = Recording(tmp_path, TOPICS)
    assert after.number == "000003"
    after.discard()


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path):
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from robostack.real.recording import Recording, RecordingError, Topic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)\n"
        "recording = Recording(Path(sys.argv[1]), [Topic('/picture', 'sensor_msgs/msg/Image')])\n"
        "while recording.error is None: recording.put('/picture', 1, bytes(10_000))\n"
        "try: recording.close({})\n"
        "except RecordingError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert "000000 could not be finished" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "partial" / "000000" / "000000.mcap").stat().st_size > 0
    assert not (tmp_path / "000000").exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot record into"):
        Recording(tmp_path / "file" / "here", TOPICS)
    assert free_space(tmp_path / "not" / "yet") == pytest.approx(free_space(tmp_path), rel=0.1)


@pytest.mark.parametrize("hz", [5.0, 30.0, 200.0])
def test_a_rate_is_what_it_is_and_none_once_it_has_ended(hz):
    rate = Rate(window=2.0)
    for i in range(1000):
        rate.tick(i / hz)
    end = 999 / hz
    assert rate.hz(end) == pytest.approx(hz, rel=0.01)
    assert rate.hz(end + 1.9) < 0.6 * hz and rate.hz(end + 2.1) == 0
    assert rate.age(end + 0.5) == pytest.approx(0.5)


def test_a_start_is_refused_with_the_topic_and_both_rates():
    rates = {topic.name: Rate() for topic in TOPICS}
    for i in range(100):
        rates["/value"].tick(i / 50)
    assert slow(TOPICS, rates, 2.0, 0.8) == ["/value: expected 100 Hz, measured 50.0 Hz"]
    assert slow([Topic("/value", FLOATS, hz=50.0)], rates, 2.0, 0.8) == []
