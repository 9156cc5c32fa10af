"""Mappings are files that people write: what is read is what was written, mistakes are told."""

import pytest

from robostack.config import ConfigError
from robostack.real.teleop.mapping import read_mapping, shipped, write_mapping


@pytest.mark.parametrize("name", shipped())
def test_a_mapping_survives_being_written_and_read(name, tmp_path):
    mapping = read_mapping(name)
    write_mapping(mapping, tmp_path / "folder" / "mine.yaml")
    assert read_mapping(tmp_path / "folder" / "mine.yaml") == mapping
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["mine.yaml"]


def test_there_is_one_for_every_kind_of_device():
    names = {"browser", "evdev", "gamepad", "joy", "keyboard", "leader", "spacemouse", "vr"}
    assert names <= set(shipped())


def test_no_button_means_two_things_to_the_hands():
    for name in shipped():
        mapping = read_mapping(name)
        hands = [mapping.deadman, mapping.clutch, mapping.slower, mapping.faster, mapping.switch]
        hands += [b for m in mapping.motions.values() for b in (m.plus, m.minus)]
        hands += [mapping.gripper.toggle, mapping.gripper.close]
        hands = [button for button in hands if button]
        assert len(set(hands)) == len(hands), name
        assert not set(hands) & set(mapping.session.values()), name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("device: joystick", "expected one of browser, keyboard"),
        ("motions: {dx: {axis: x, plus: w}}", "motions.dx: expected an axis, or the buttons"),
        ("motions: {dx: {scale: 2}}", "motions.dx: expected an axis, or the buttons"),
        ("motions: {dx: {axis: x, scale: 0}}", "motions.dx.scale"),
        ("motions: {dx: {axes: x}}", "did you mean motions.dx.axis"),
        ("gripper: {toggle: a, axis: t}", "one of toggle, close, axis"),
        ("gripper: {}", "one of toggle, close, axis"),
        ("session: {begin: a}", "words of start, stop, keep"),
        ("speed: 0", "more than 0"),
        ("deadzone: 1", "below 1"),
        ("hold: 0", "hold"),
        ("follow: me", "relative, match"),
        ("[1, 2]", "keys and values"),
        ("a: [", "not YAML"),
    ],
)
def test_mistakes_are_told_with_the_file(text, told, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_mapping(path)
    assert str(path) in str(caught.value)


def test_a_mapping_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(ConfigError, match="or one of .*gamepad, .*joy"):
        read_mapping("gamepda")
    with pytest.raises(ConfigError, match="No such file"):
        read_mapping(tmp_path / "gone.yaml")
