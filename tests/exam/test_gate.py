import json

import pytest

from robostack.exam.gate import GateError, aims, passed, read
from robostack.exam.trials import AIMS

EXAM = {
    "rewards": {
        "progress": {"numbers": {"voc": {"value": 0.9}}, "not_applicable": {"chunks": "no rank"}},
        "world_model": {
            "numbers": {"voc": {"value": 0.5}, "auc": {"value": 1.0}},
            "not_applicable": {},
        },
    }
}


@pytest.mark.parametrize(
    "gate, violated",
    [
        ({"progress": {"voc": {"min": 0.9}}}, []),
        ({"progress": {"voc": {"max": 0.9}}}, []),
        ({"progress": {"voc": {"min": 0.91}}}, ["progress: voc is 0.900, expected min 0.91"]),
        (
            {"*": {"voc": {"min": 0.6, "max": 1}}},
            ["world_model: voc is 0.500, expected min 0.6 and max 1"],
        ),
        ({"*": {"auc": {"min": 0.9}}}, []),  # for those that have it
        ({"progress": {"auc": {"min": 0.9}}}, ["progress: auc was not measured (no rank)"]),
        ({"*": {"kendall": {"min": 0}}}, ["*: kendall was not measured (no rank)"]),
    ],
)
def test_a_gate_names_every_row_that_is_violated(gate, violated):
    assert passed(EXAM, gate) == violated


def test_a_number_that_is_none_passes_no_gate():
    exam = {"rewards": {"a": {"numbers": {"voc": {"value": float("nan")}}, "not_applicable": {}}}}
    assert passed(exam, {"a": {"voc": {"min": 0}}}) and passed(exam, {"a": {"voc": {"max": 0}}})


def test_a_reward_that_sat_no_exam_cannot_be_gated():
    with pytest.raises(GateError, match="did you mean progress"):
        passed(EXAM, {"progres": {"voc": {"min": 0}}})


@pytest.mark.parametrize(
    "text, why",
    [
        ("{progress: {vocs: {min: 0}}}", "did you mean voc"),
        ("{progress: {voc: {minimum: 0}}}", "did you mean min"),
        ("{progress: {voc: 0.9}}", "expected min, max or both"),
        ("{progress: {voc: {min: high}}}", "expected a number"),
        ("{progress: {voc: {min: true}}}", "expected a number"),
        ("{progress: {voc: {min: .nan}}}", "finite"),
        ("{progress: {voc: {min: 1, max: 0}}}", "above max"),
        ("{progress: {}}", "expected numbers and their bounds"),
        ("[]", "expected rewards"),
        ("{a: [", "neither YAML nor JSON"),
    ],
)
def test_a_gate_that_means_nothing_is_refused(tmp_path, text, why):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(GateError, match=why):
        read(path)


def test_yaml_and_json_say_the_same(tmp_path):
    gate = {"*": {"voc": {"min": 0.9, "max": 1.0}}}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    (tmp_path / "gate.yaml").write_text("'*': {voc: {min: 0.9, max: 1.0}}")
    assert read(tmp_path / "gate.json") == read(tmp_path / "gate.yaml") == gate
    with pytest.raises(GateError, match="does not exist"):
        read(tmp_path / "none.yaml")


def test_aims_of_the_config_go_over_the_built_in_ones():
    assert aims({}) == AIMS
    assert aims({"voc": {"min": 0.5}}) == {**AIMS, "voc": {"min": 0.5}}
    with pytest.raises(GateError, match="did you mean kendall"):
        aims({"kendal": {"min": 0.5}})
