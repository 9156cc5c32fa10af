"""What people say: asked alike, never lost, counted once, and turned into preferences."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from fakes import make_episode

from robostack.prefer.answers import Answer, Ledger
from robostack.prefer.compare import PreferConfig
from robostack.prefer.people import Question, Try, agreement, preferences, questions
from robostack.prefer.saved import PreferenceError

GROUPS = {"a": ["0", "1", "2"], "b": ["3", "4"], "c": ["5", "6", "7", "8"]}
OF = {episode: group for group, tries in GROUPS.items() for episode in tries}
TRIES = {
    episode: Try.of(make_episode(int(episode), steps=4 + int(episode), group=group))
    for episode, group in OF.items()
}  # odd ones succeeded
CONFIG = PreferConfig(horizon=8)


def answer(number, better, key=("0", "1"), annotator="ada", **changes):
    first, second = key
    fields = dict(id=f"{number}", annotator=annotator, key=f"{first}-{second}", left=first,
                  right=second, answer=better, seconds=1.0)  # fmt: skip
    return Answer(**(fields | changes))


def made(*answers, config=CONFIG, seed=0, tries=TRIES):
    return preferences(answers, tries, config, seed)


def named(*answers):
    """With the digests of their episodes."""
    return [replace(a, digests={e: TRIES[e].digest for e in (a.left, a.right)}) for a in answers]


def test_pairs_are_of_one_group_and_drawn_by_the_seed_alone():
    found = questions(GROUPS, 2, seed=0)
    assert Counter(q.group for q in found) == {"a": 2, "b": 1, "c": 2}
    assert all({q.first, q.second} <= set(GROUPS[q.group]) for q in found)
    assert len({q.key for q in found}) == 5
    assert found == questions(dict(reversed(GROUPS.items())), 2, seed=0) != questions(GROUPS, 2, 1)


def test_which_side_is_which_differs_between_people_and_pairs_and_stays():
    sides = Counter(
        Question("g", f"{i}", f"{i + 100}").sides(name)[0] == f"{i}"
        for i in range(100)
        for name in ("ada", "bob")
    )
    assert 70 < sides[True] < 130
    assert Question("g", "0", "1").sides("ada") == Question("g", "0", "1").sides("ada")


def test_the_majority_decides_and_the_margin_is_how_clear_it_is():
    votes = [answer(k, a, annotator=f"{k}") for k, a in enumerate(["left", "left", "right"])]
    (pair,), card = made(*votes)
    assert (pair.chosen.episode, pair.rejected.episode) == ("0", "1")
    assert pair.margin == pytest.approx(1 / 3) and pair.uncertainty == pytest.approx(2 / 3)
    assert pair.annotator == "0, 1, 2" and pair.group == "a" and not pair.tie
    assert card["decided_by_success"] == 1 and card["chosen_succeeded"] == 0


def test_who_sat_where_does_not_matter():
    turned = answer(1, "right", left="1", right="0")
    assert made(answer(0, "left"))[0][0].chosen == made(turned)[0][0].chosen


def test_an_even_vote_and_equal_ones_are_ties_and_skipped_ones_are_nothing():
    even = [answer(0, "left"), answer(1, "right", annotator="bob")]
    equal = answer(2, "equal", key=("3", "4"))
    skipped = answer(3, "skip", key=("5", "6"))
    clear = answer(4, "right", key=("7", "8"))
    found, card = made(*even, equal, skipped, clear)
    assert [(p.group, p.tie) for p in found] == [("c", False), ("a", True), ("b", True)]
    assert card["preferences"] == 3 and card["ties"] == 2
    with pytest.raises(PreferenceError, match="nobody prefers anything: 4 answers, 2"):
        made(*even, equal, skipped)


def test_a_later_answer_of_the_same_person_replaces_the_earlier():
    found, _ = made(answer(0, "left"), answer(1, "right"))
    assert found[0].chosen.episode == "1" and found[0].margin == 1


@pytest.mark.parametrize(("clip", "stop"), [(-1, 5), (0, 4), (2, 2)])
def test_clips_are_as_long_as_is_asked(clip, stop):
    (pair,), _ = made(answer(0, "right"), config=replace(CONFIG, horizon=4, clip=clip))
    assert (pair.chosen.episode, pair.chosen.stop) == ("1", stop)


def test_an_answer_about_an_episode_that_is_gone_is_refused_by_name():
    with pytest.raises(PreferenceError, match="ada's answer to 0-99 is about episode 99"):
        made(answer(0, "left", key=("0", "99")))


def test_an_answer_about_another_episode_of_that_id_is_refused_by_name():
    here = named(answer(0, "left"))
    other = TRIES | {"1": Try.of(make_episode(77, group="a"))}
    assert made(*here)[1]["unnamed"] == 0
    with pytest.raises(PreferenceError, match="ada's answer to 0-1 is about another episode 1 "):
        made(*here, tries=other)
    late = answer(1, "right")  # of a version without digests: nobody can tell
    assert made(late, tries=other)[1]["unnamed"] == 1


@pytest.mark.parametrize("groups", ["ab", ("", "")])
def test_an_answer_about_tries_of_different_states_is_refused_by_name(groups):
    tries = {f"{k}": Try.of(make_episode(k, group=group)) for k, group in enumerate(groups)}
    with pytest.raises(PreferenceError, match="ada's answer to 0-1 compares tries of different"):
        made(answer(0, "left"), tries=tries)


# what becomes of the pairs -----------------------------------------------------------------------
EVERY = [("0", "1"), ("0", "2"), ("1", "2"), ("3", "4"), ("5", "6"), ("7", "8")]


def test_of_equal_margins_the_seed_draws_which_are_kept():
    said = [answer(k, "left", key) for k, key in enumerate(EVERY)]
    unsure = answer("b", "right", EVERY[0], annotator="bob")
    less = answer("c", "left", EVERY[0], annotator="cem")  # two of three: the least margin
    kept = {
        seed: {(p.chosen.episode, p.rejected.episode) for p in found}
        for seed in range(20)
        for found, card in [made(*said, unsure, less, config=replace(CONFIG, keep=0.5), seed=seed)]
        if card["small"] == 3
    }
    assert {len(pairs) for pairs in kept.values()} == {3} and len(kept) == 20
    assert set.union(*kept.values()) == set(EVERY[1:])
    assert made(*said, config=replace(CONFIG, keep=0.5), seed=3) == made(
        *said, config=replace(CONFIG, keep=0.5), seed=3
    )


def test_a_small_margin_is_a_tie_where_that_is_asked():
    votes = [answer(k, a, annotator=f"{k}") for k, a in enumerate(["left", "left", "right"])]
    clear = answer(9, "right", key=("3", "4"))
    found, card = made(*votes, clear, config=replace(CONFIG, tie=0.4))
    assert [(p.group, p.tie, p.margin) for p in found] == [("b", False, 1), ("a", True, 0)]
    assert card["ties"] == 1


def test_tries_that_did_nearly_the_same_are_left_out_and_counted():
    nearly = replace(TRIES["0"], actions=TRIES["0"].actions + 0.001)
    found, card = made(
        answer(0, "left"), answer(1, "left", key=("3", "4")), tries=TRIES | {"1": nearly}
    )
    assert [p.group for p in found] == ["b"] and card["duplicates"] == 1
    assert card["comparisons"] == 2
    with pytest.raises(PreferenceError, match="1 of clips less than apart=0.02 apart"):
        made(answer(0, "left"), tries=TRIES | {"1": nearly})


def test_a_coin_decides_where_that_is_asked_and_the_terms_say_so():
    said = [answer(k, "left", key) for k, key in enumerate(EVERY)]
    straight, card = made(*said)
    turned = [made(*said, config=replace(CONFIG, shuffle=True), seed=s)[0] for s in range(20)]
    where = [[a.chosen == b.rejected for a, b in zip(straight, found)] for found in turned]
    assert 30 < sum(map(sum, where)) < 90  # of 120
    for found, flips in zip(turned, where):
        assert [p.terms["people"] for p in found] == [-1 if f else 1 for f in flips]
    assert card["config"]["shuffle"] is False and card["seed"] == 0


@pytest.mark.parametrize(
    "keys",
    [{"weights": {"keypoints": 1.0}}, {"certain": 0.5}, {"pairs": 3}, {"candidates": 4}],
)
def test_a_key_that_says_nothing_of_people_is_refused(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f"{name}=.* source=people has no use .* keep, apart, tie"):
        made(answer(0, "left"), config=replace(CONFIG, source="people", **keys))


def test_agreement_is_between_people_on_the_pairs_they_share():
    keys = [("0", "1"), ("0", "2"), ("1", "2"), ("3", "4")]
    ada = [answer(f"a{k}", "left", key) for k, key in enumerate(keys)]
    bob = [
        answer(f"b{k}", say, key, annotator="bob", **swap)
        for k, (key, say, swap) in enumerate(
            [
                (keys[0], "left", {}),
                (keys[1], "right", {"left": "2", "right": "0"}),  # the same one, on the other side
                (keys[2], "right", {}),
            ]
        )
    ]
    found = agreement(ada + bob)
    assert found["answers"] == {"ada": 4, "bob": 3} and found["shared"] == 3
    assert found["agreement"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["kappa"] == pytest.approx(0.0)  # ada always says the first: no more than chance
    assert agreement(ada)["agreement"] is None


def test_kappa_by_hand():
    """Two people, 10 pairs: 4 both first, 3 both second, 3 apart: (0.7 - 0.5) / 0.5."""
    said = ["ll"] * 4 + ["rr"] * 3 + ["lr"] * 1 + ["rl"] * 2
    word = {"l": "left", "r": "right"}
    answers = [
        answer(f"{k}{who}", word[c], (f"{k}", f"{k}b"), annotator=who)
        for k, both in enumerate(said)
        for who, c in zip(("ada", "bob"), both)
    ]
    # ada: 5 first; bob: 6 first -> chance 0.3 + 0.2 = 0.5
    assert agreement(answers)["kappa"] == pytest.approx((0.7 - 0.5) / 0.5)


# the ledger --------------------------------------------------------------------------------------
def test_the_ledger_goes_on_where_it_was_and_counts_an_answer_once(tmp_path):
    ledger = Ledger(tmp_path / "runs" / "labels.jsonl")
    assert ledger.add(answer(0, "left")) and not ledger.add(answer(0, "left"))
    again = Ledger(ledger.path)
    assert again.answers == [answer(0, "left")] and not again.add(answer(0, "left"))
    assert again.add(answer(1, "right"))
    assert again.latest()["ada", "0-1"].answer == "right"
    assert len(ledger.path.read_text().splitlines()) == 2  # nothing is ever taken back


def three(tmp_path):
    ledger = Ledger(tmp_path / "labels.jsonl")
    for k in range(3):
        ledger.add(answer(k, "left"))
    return ledger.path


@pytest.mark.parametrize("cut", [5, 40])
def test_a_line_that_a_crash_cut_short_is_put_aside_and_the_next_one_is_whole(tmp_path, cut):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    before, torn = path.read_bytes(), path.read_bytes().splitlines()[-1]
    again = Ledger(path)
    assert len(again.answers) == 2 and path.read_bytes() == before  # reading changes nothing
    assert list(tmp_path.iterdir()) == [path]
    again.add(answer(9, "equal"))
    assert [a.id for a in Ledger(path).answers] == ["0", "1", "9"]
    assert (tmp_path / "labels.jsonl.torn").read_bytes() == torn + b"\n"


def test_a_whole_answer_without_an_end_of_its_line_counts_and_stays(tmp_path):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    again = Ledger(path)
    assert [a.id for a in again.answers] == ["0", "1", "2"]
    again.add(answer(9, "equal"))
    assert [a.id for a in Ledger(path).answers] == ["0", "1", "2", "9"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_a_full_disk_cut_short_spoils_no_later_one(tmp_path):
    path = three(tmp_path)
    ledger = Ledger(path)
    with path.open("a") as file:
        file.write('{"id": "3", "anno')  # and then the write failed
    ledger.add(answer(4, "left"))
    assert [a.id for a in Ledger(path).answers] == ["0", "1", "2", "4"]


def test_a_file_of_one_line_that_is_no_answer_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("buy milk")
    with pytest.raises(PreferenceError, match="holds no answer, but 'buy milk'; name another"):
        Ledger(path)
    assert path.read_text() == "buy milk"


def test_ledgers_of_older_versions_are_read_with_a_word_of_warning(tmp_path, capsys):
    path = tmp_path / "labels.jsonl"
    path.write_text(
        '{"id": "1", "annotator": "ada", "key": "0-1", "left": "1", "right": "0", '
        '"answer": "left", "seconds": 2.5}\n'
    )
    ledger = Ledger(path)
    ledger.warn_of_unnamed("runs/tries")
    assert ledger.answers == [answer("1", "left", left="1", right="0", seconds=2.5)]
    assert "1 answers in" in (told := capsys.readouterr().err) and "about runs/tries" in told
    (whole,) = named(answer(0, "left"))
    ledger = Ledger(tmp_path / "new.jsonl")
    assert ledger.add(whole) and Ledger(ledger.path).answers == [whole]
    ledger.warn_of_unnamed("runs/tries")
    assert capsys.readouterr().err == ""


def test_a_file_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(PreferenceError, match="line 1: not an answer"):
        Ledger(path)
    assert path.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answer", "both"),
        ("annotator", " "),
        ("key", 3),
        ("id", "x" * 999),
        ("digests", {"0": "a"}),
        ("digests", {"0": "a", "1": 3}),
        ("digests", "ab"),
    ],
)
def test_what_is_no_answer_is_refused_by_its_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(answer(0, "left"), **{field: value})


def test_every_answer_is_one_line_of_json(tmp_path):
    ledger = Ledger(tmp_path / "labels.jsonl")
    ledger.add(answer(0, "left", annotator="Ada\nLovelace"))
    (line,) = ledger.path.read_text().splitlines()
    assert json.loads(line)["annotator"] == "Ada\nLovelace"
    assert Ledger(ledger.path).answers[0].annotator == "Ada\nLovelace"
