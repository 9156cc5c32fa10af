"""Defaults < YAML < overrides, and every mistake names what would have been right."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from robostack.config import ConfigError, read, to_dict


@dataclass(frozen=True)
class Inner:
    level: float = 0.0
    steps: int = 5


@dataclass(frozen=True)
class Outer:
    lr: float = 1e-3
    batch: int = 32
    task: str = "Lift"
    dry: bool = False
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=lambda: Inner(level=0.5))


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_without_a_file_and_overrides_the_defaults_stand():
    assert read(Outer) == Outer()


def test_yaml_beats_defaults_and_overrides_beat_yaml(tmp_path):
    file = write(tmp_path, "lr: 0.1\nbatch: 8\ninner: {steps: 7}\n")
    config = read(Outer, file, ["batch=4", "inner.steps=9"])
    assert (config.lr, config.batch, config.task, config.inner.steps) == (0.1, 4, "Lift", 9)


@pytest.mark.parametrize("text", ["3e-4", "0.0003", "3.0e-4"])
def test_scientific_notation_is_a_float(text, tmp_path):
    assert read(Outer, overrides=[f"lr={text}"]).lr == 3e-4
    assert read(Outer, write(tmp_path, f"lr: {text}")).lr == 3e-4


def test_an_integer_is_a_float_where_one_is_wanted():
    lr = read(Outer, overrides=["lr=1"]).lr
    assert lr == 1.0 and isinstance(lr, float)


def test_overrides_are_read_as_what_they_look_like():
    texts = ["betas=[0.5, 1]", "names=[x, y]", "dry=true", "limit=3", "weights.progress=2"]
    config = read(Outer, overrides=texts)
    assert config.betas == (0.5, 1.0) and config.names == ("x", "y")
    assert config.dry is True and config.limit == 3 and config.weights == {"progress": 2.0}
    assert read(Outer, overrides=["limit=null"]).limit is None


def test_an_unknown_key_lists_the_valid_ones_and_suggests_the_near_one():
    with pytest.raises(ConfigError) as caught:
        read(Outer, overrides=["btach=3"])
    assert "did you mean batch?" in str(caught.value)
    assert all(name in str(caught.value) for name in to_dict(Outer()))


def test_an_unknown_nested_key_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"inner\.stps \(did you mean inner\.steps\?\).*level"):
        read(Outer, overrides=["inner.stps=3"])


@pytest.mark.parametrize(
    "override",
    [
        "batch=1.5",
        "batch=many",
        "batch=true",
        "lr=fast",
        "lr=true",
        "dry=1",
        "kind=c",
        "betas=[0.9]",
        "betas=0.9",
        "names=x",
        "inner=3",
        "weights=[1]",
        "weights.progress=much",
        "limit=x",
        "task=[Lift]",
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_key(override):
    with pytest.raises(ConfigError, match=override.split("=")[0].split(".")[0]):
        read(Outer, overrides=[override])


def test_a_key_inside_a_plain_value_is_refused():
    with pytest.raises(ConfigError):
        read(Outer, overrides=["lr.x=1"])
    with pytest.raises(ConfigError):
        read(Outer, overrides=["lr=1", "lr.x=1"])


def test_an_override_without_a_value_sign_is_refused():
    with pytest.raises(ConfigError, match="key=value"):
        read(Outer, overrides=["batch"])


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "lr: [1\n", "just words\n"])
def test_a_file_that_is_not_keys_and_values_is_refused_by_name(tmp_path, text):
    with pytest.raises(ConfigError, match="config.yaml"):
        read(Outer, write(tmp_path, text))


def test_a_missing_file_is_refused_and_an_empty_one_changes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read(Outer, tmp_path / "absent.yaml")
    assert read(Outer, write(tmp_path, "")) == Outer()


def test_setting_one_key_of_a_group_leaves_its_neighbours_at_the_default_of_the_field():
    # the default of `inner` is not the default of `Inner`: level must stay 0.5
    assert read(Outer, overrides=["inner.steps=3"]).inner == Inner(level=0.5, steps=3)


def test_what_to_dict_writes_reads_back_as_the_same_config(tmp_path):
    import yaml

    config = read(Outer, overrides=["lr=3e-4", "inner.steps=2", "names=[x]", "weights.a=1"])
    plain = {**to_dict(config), "betas": list(config.betas), "names": list(config.names)}
    assert read(Outer, write(tmp_path, yaml.safe_dump(plain))) == config
