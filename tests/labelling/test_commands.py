"""`robostack label`, and `robostack prefer` of what it kept."""

import json
from dataclasses import replace

from fakes import SPEC, make_episode, swap
from label_site import said

from robostack import cli
from robostack.data.store import Store
from robostack.prefer import saved


def test_a_store_without_tries_of_one_state_is_refused_with_advice(tmp_path, capsys):
    store = Store.create(tmp_path / "demos", SPEC)
    store.append(make_episode(0, group=""))
    command = ["label", "--data", str(store.path), "--out", str(tmp_path / "l.jsonl"), "port=0"]
    assert cli.main(command) == 1
    assert "no two tries started from the same state; collect with" in capsys.readouterr().err


def test_tries_without_pictures_are_refused_at_the_start(tmp_path, capsys):
    blind = replace(SPEC, cameras={})
    store = Store.create(tmp_path / "blind", blind)
    for seed in range(2):
        store.append(replace(make_episode(seed, steps=6), images={}, spec=blind))
    words = ["label", "--data", str(store.path), "--out", str(tmp_path / "labels.jsonl")]
    assert cli.main(words) == cli.FAILED
    assert "expected tries with pictures, and its robot has no camera" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(site, store, tmp_path, capsys):
    command = ["label", "--data", str(store.path), "--out", str(tmp_path / "l.jsonl")]
    assert cli.main([*command, f"port={site.port}"]) == 1
    assert f"cannot listen on 127.0.0.1:{site.port}" in capsys.readouterr().err


def test_labels_become_preferences_from_the_command_line(site, store, tmp_path, capsys):
    for number in range(4):
        shown = site.post("next", {"annotator": "ada", "tab": "1"})
        site.post("answer", said(shown, "right" if number else "equal", f"{number}"))
    words = ["prefer", "--data", str(store.path), "--out", str(tmp_path / "p.jsonl")]
    assert cli.main([*words, "source=people"]) == 1
    assert "source=people needs --labels" in capsys.readouterr().err
    assert cli.main([*words, "--labels", str(site.path)]) == 1
    assert "source=tries takes no --labels" in capsys.readouterr().err
    assert cli.main([*words, "--labels", str(site.path), "source=people"]) == 0
    found = saved.load(tmp_path / "p.jsonl")
    assert [p.tie for p in found.pairs].count(True) == 1 and len(found.pairs) == 4
    assert found.card["answers"] == {"ada": 4} and {p.annotator for p in found.pairs} == {"ada"}
    assert len(found.episodes()) == 8


def test_labels_of_another_store_and_of_changed_episodes_make_no_preferences(
    site, store, other, tmp_path, capsys
):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    site.post("answer", said(shown))
    words = ["--out", str(tmp_path / "p.jsonl"), "--labels", str(site.path), "source=people"]
    assert cli.main(["prefer", "--data", str(other.path), *words]) == 1
    assert f"ada's answer to {shown['key']} is about another episode" in capsys.readouterr().err
    swap(store, shown["left"], make_episode(99, group="seed 0 step 0"))
    assert cli.main(["prefer", "--data", str(store.path), *words]) == 1
    assert f"is about another episode {shown['left']} than" in capsys.readouterr().err
    assert not (tmp_path / "p.jsonl").exists() and not (tmp_path / "p.html").exists()


def test_labels_of_an_older_version_are_taken_with_a_warning_where_the_states_agree(
    store, tmp_path, capsys
):
    labels, out = tmp_path / "labels.jsonl", tmp_path / "p.jsonl"
    old = {"id": "1", "annotator": "ada", "answer": "left", "seconds": 1.0}
    words = ["--data", str(store.path), "--labels", str(labels), "--out", str(out), "source=people"]
    labels.write_text(json.dumps({**old, "key": "000000-000001", "left": "000000",
                                  "right": "000001"}) + "\n")  # fmt: skip
    assert cli.main(["prefer", *words]) == 0
    assert "1 answers in" in (told := capsys.readouterr()).err and "do not name" in told.err
    assert json.loads(told.out)["unnamed"] == 1
    labels.write_text(json.dumps({**old, "key": "000000-000002", "left": "000000",
                                  "right": "000002"}) + "\n")  # fmt: skip
    assert cli.main(["prefer", "--force", *words]) == 1
    assert "ada's answer to 000000-000002 compares tries of different" in capsys.readouterr().err


def test_the_card_of_peoples_pairs_tells_how_they_were_made_and_filtered(site, store, tmp_path):
    for number in range(4):
        shown = site.post("next", {"annotator": "ada", "tab": "1"})
        site.post("answer", said(shown, number=f"{number}"))
    before = site.path.read_bytes()

    def card(name, *keys):
        words = ["--data", str(store.path), "--labels", str(site.path), "source=people", *keys]
        assert cli.main(["prefer", "--out", str(tmp_path / name), *words]) == 0
        return saved.load(tmp_path / name).card

    half = card("half.jsonl", "keep=0.5", "--seed", "3")
    assert half["preferences"] == 2 and half["small"] == 2 and half["seed"] == 3
    assert half["config"]["keep"] == 0.5 and half["config"]["source"] == "people"
    assert card("all.jsonl")["labels"] == half["labels"] and site.path.read_bytes() == before
    site.post("answer", said(shown, "right", number="again"))
    assert card("later.jsonl")["labels"] != half["labels"]
    assert "the margin was small" in (tmp_path / "half.html").read_text()


def test_a_set_is_never_written_over_its_labels(site, store, capsys):
    site.post("answer", said(site.post("next", {"annotator": "ada", "tab": "1"})))
    words = ["--data", str(store.path), "--labels", str(site.path), "source=people", "--force"]
    assert cli.main(["prefer", "--out", str(site.path), *words]) == 1
    assert "got that of the labels" in capsys.readouterr().err and len(site.answers()) == 1
