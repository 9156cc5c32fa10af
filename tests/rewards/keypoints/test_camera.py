"""Cameras against their own inverses, OpenCV, MuJoCo's cameras, and the laws of noise."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robostack.rewards.keypoints.camera import (
    Camera,
    read_cameras,
    triangulate,
    write_cameras,
)
from robostack.rewards.keypoints.tracks import KeypointError

LENS = (-0.2, 0.05, 0.002, -0.001, 0.01)
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(-0.2, 0.2, (50, 3))


def looking(position, size=128, focal=150.0, lens=()):
    """A camera that looks at the origin from a place, its pictures' upper edge upwards."""
    forward = -np.asarray(position, float) / np.linalg.norm(position)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(forward, right), forward])
    middle = (size - 1) / 2
    return Camera(
        [[focal, 0, middle], [0, focal, middle], [0, 0, 1]], rotation, position, size, size, lens
    )


CAMERAS = [looking((1.0, 0.2, 0.5)), looking((0.1, -1.2, 0.4)), looking((-0.8, 0.6, 0.9))]
BENT = [looking(c.position, lens=LENS) for c in CAMERAS]


def test_a_point_straight_ahead_is_in_the_middle_right_is_right_and_up_is_up():
    camera = looking((1.0, 0.0, 0.0))  # the world's y is to its right
    middle, right, up = camera.project([[0, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    assert np.allclose(middle, 63.5)
    assert np.allclose(right, [63.5 + 15, 63.5]) and np.allclose(up, [63.5, 63.5 - 15])


@pytest.mark.parametrize("camera", CAMERAS + BENT, ids=lambda c: f"{c.position} {c.distortion}")
def test_projection_is_that_of_opencv(camera):
    turn, _ = cv2.Rodrigues(camera.rotation.T)
    shift = -camera.rotation.T @ camera.position
    theirs, _ = cv2.projectPoints(
        POINTS, turn, shift, camera.intrinsics, np.array(camera.distortion)
    )
    assert np.allclose(camera.project(POINTS), theirs[:, 0], atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS + BENT, ids=lambda c: f"{c.position} {c.distortion}")
def test_a_pixels_ray_goes_through_every_point_that_projects_there(camera):
    away = POINTS - camera.position
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    assert np.allclose(camera.ray(camera.project(POINTS)), away, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, -3.0])
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: str(c.position))
def test_a_camera_is_found_again_in_its_projection_of_any_scale(camera, scale):
    again = Camera.from_projection(scale * camera.projection, 128, 128)
    for name in ("intrinsics", "rotation", "position"):
        assert np.allclose(getattr(again, name), getattr(camera, name), atol=1e-9)


def test_what_is_behind_a_camera_has_no_pixel():
    assert np.isnan(CAMERAS[0].project(2 * CAMERAS[0].position)).all()


def test_a_picture_ends_half_a_pixel_beyond_the_centres_of_its_outer_pixels():
    inside, outside = [(-0.5, 0), (127.5, 127.5)], [(-0.6, 0), (0, 127.6), (np.nan, 3)]
    assert CAMERAS[0].sees(inside).all() and not CAMERAS[0].sees(outside).any()


@pytest.mark.parametrize("cameras", [CAMERAS[:2], CAMERAS, BENT], ids=["two", "three", "bent"])
def test_triangulation_is_the_inverse_of_projection(cameras):
    for point in POINTS:
        found, error = triangulate(cameras, np.stack([c.project(point) for c in cameras]))
        assert np.allclose(found, point, atol=1e-7) and error < 1e-5


def errors(sigma, cameras=CAMERAS):
    """Distances f64[N] of triangulated points from those seen with noise in their pixels."""
    noise = np.random.default_rng(1).normal(0, 1, (len(POINTS), len(cameras), 2))
    exact = np.stack([camera.project(POINTS) for camera in cameras], 1)
    found = [triangulate(cameras, pixels)[0] for pixels in exact + sigma * noise]
    return np.linalg.norm(np.stack(found) - POINTS, axis=1)


def test_small_noise_in_pixels_moves_points_in_proportion():
    assert np.allclose(errors(0.02) / errors(0.01), 2, atol=0.02)


def test_half_a_pixel_at_a_metre_is_millimetres_and_a_third_view_helps():
    two, three = errors(0.5, CAMERAS[:2]), errors(0.5)
    assert np.sqrt((three**2).mean()) < np.sqrt((two**2).mean()) < 0.01


def test_no_point_nearby_fits_the_pixels_better():
    exact = np.stack([camera.project(POINTS[0]) for camera in CAMERAS])
    pixels = exact + np.random.default_rng(2).normal(0, 2, exact.shape)
    found, error = triangulate(CAMERAS, pixels)

    def away(point):
        offsets = np.stack([camera.project(point) for camera in CAMERAS]) - pixels
        return np.sqrt((offsets**2).sum(-1).mean())

    assert np.isclose(away(found), error)
    for step in RNG.normal(0, 1e-3, (100, 3)):
        assert away(found + step) >= error


def test_the_order_of_the_views_does_not_matter():
    pixels = np.stack([c.project(POINTS[3]) for c in CAMERAS]) + [[1, 0], [0, 2], [-1, 1]]
    first, second = triangulate(CAMERAS, pixels), triangulate(CAMERAS[::-1], pixels[::-1])
    assert np.allclose(first[0], second[0], atol=1e-7)


BESIDE = Camera(
    CAMERAS[0].intrinsics,
    CAMERAS[0].rotation,
    CAMERAS[0].position + 0.001 * CAMERAS[0].rotation[:, 0],
    128,
    128,
)


@pytest.mark.parametrize(
    ("cameras", "pixels", "why"),
    [
        (CAMERAS[:1], [(60, 60)], "two or more views"),
        (CAMERAS[:2], [(60, 60)], "two or more views"),
        (CAMERAS[:2], [(60, 60), (np.nan, 60)], "finite"),
        ([CAMERAS[0], CAMERAS[0]], [(60, 60), (60, 60)], "parallel"),
        ([CAMERAS[0], BESIDE], [(60, 60), (60.1, 60)], "parallel"),
    ],
    ids=["one view", "too few pixels", "not a number", "twice the same camera", "a millimetre"],
)
def test_pixels_that_give_no_depth_are_refused(cameras, pixels, why):
    with pytest.raises(KeypointError, match=why):
        triangulate(cameras, np.array(pixels, float))


def test_rays_that_meet_behind_the_cameras_are_refused():
    left, right = looking((1.0, -0.1, 0)), looking((1.0, 0.1, 0))
    behind = np.array([(30.0, 63.5), (97.0, 63.5)])  # each looks outwards
    with pytest.raises(KeypointError, match="behind"):
        triangulate([left, right], behind)


def test_a_calibration_file_gives_back_what_was_written(tmp_path):
    file = tmp_path / "cameras.json"
    write_cameras(file, {"a": CAMERAS[0], "b": BENT[1]})
    again = read_cameras(file)
    for name, camera in {"a": CAMERAS[0], "b": BENT[1]}.items():
        assert (again[name].project(POINTS) == camera.project(POINTS)).all()
        assert (again[name].height, again[name].width) == (128, 128)


def test_a_calibration_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "cameras.json"
    write_cameras(file, {"a": CAMERAS[0]})
    before, write = file.read_bytes(), Path.write_text

    def full(path, text):
        write(path, text[:20])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        write_cameras(file, {"a": CAMERAS[0], "b": BENT[1]})
    assert file.read_bytes() == before


def test_a_calibration_file_may_hold_projections(tmp_path):
    file = tmp_path / "cameras.json"
    raw = {"projection": CAMERAS[0].projection.tolist(), "height": 128, "width": 128}
    file.write_text(json.dumps({"a": raw}))
    assert np.allclose(read_cameras(file)["a"].project(POINTS), CAMERAS[0].project(POINTS))


GOOD = CAMERAS[0].plain()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no readable"),
        ("[1]", "name: camera"),
        ("{}", "name: camera"),
        ('{"a": 3}', "camera 'a'.*intrinsics, rotation, position"),
        (json.dumps({"a": GOOD | {"fov": 3}}), "got keys"),
        (json.dumps({"a": GOOD | {"height": 0}}), "camera.height"),
        (json.dumps({"a": GOOD | {"height": 12.5}}), "camera.height"),
        (json.dumps({"a": GOOD | {"position": [0, 0]}}), r"camera.position.*\[3\]"),
        (json.dumps({"a": GOOD | {"position": [0, 0, float("nan")]}}), "finite"),
        (json.dumps({"a": GOOD | {"position": "here"}}), "camera.position"),
        (json.dumps({"a": GOOD | {"rotation": np.diag([1, 1, -1]).tolist()}}), "rotation matrix"),
        (json.dumps({"a": GOOD | {"rotation": np.ones((3, 3)).tolist()}}), "rotation matrix"),
        (json.dumps({"a": GOOD | {"intrinsics": np.ones((3, 3)).tolist()}}), "intrinsics"),
        (json.dumps({"a": GOOD | {"distortion": [0.1]}}), "k1 k2 p1 p2 k3"),
        (json.dumps({"a": GOOD | {"distortion": 3}}), "distortion"),
        (
            json.dumps({"a": {"projection": np.zeros((3, 4)).tolist(), "height": 8, "width": 8}}),
            "independent",
        ),
    ],
)
def test_a_damaged_calibration_is_one_clear_error(tmp_path, text, why):
    file = tmp_path / "cameras.json"
    file.write_text(text)
    with pytest.raises(KeypointError, match=why) as caught:
        read_cameras(file)
    assert str(file) in str(caught.value)


def of_mujoco(renderer, name):
    """The camera of a renderer's last picture."""
    height, width = renderer.cameras[name]
    i = renderer.ids[name]
    focal = 0.5 * height / np.tan(0.5 * np.deg2rad(renderer.model.cam_fovy[i]))
    middle = (width - 1) / 2, (height - 1) / 2
    return Camera(
        [[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]],
        renderer.data.cam_xmat[i].reshape(3, 3) @ np.diag([1, -1, -1]),
        renderer.data.cam_xpos[i],
        height,
        width,
    )


def test_pixels_and_points_are_those_of_mujocos_cameras_fixed_and_moving():
    from robostack.sim.env import EnvConfig, make_env

    names = ("agentview", "sideview", "robot0_eye_in_hand")
    env = make_env(EnvConfig(task="Lift", cameras=dict.fromkeys(names, 64)))
    places = []
    for action in (None, 0.5, -0.5):
        step = env.reset(0) if action is None else env.step(np.full(env.spec.action_dim, action))
        cameras = {name: of_mujoco(env.renderer, name) for name in names}
        points = step.keypoints["object"] + RNG.uniform(-0.02, 0.02, (5, 3))
        for name, camera in cameras.items():
            assert np.allclose(camera.project(points), env.renderer.project(name, points))
        for point in points:
            pixels = [env.renderer.project(name, point)[0] for name in names]
            found, error = triangulate(list(cameras.values()), np.stack(pixels))
            assert np.allclose(found, point, atol=1e-6) and error < 1e-4
        places.append(cameras["robot0_eye_in_hand"].position)
    env.close()
    assert np.linalg.norm(places[2] - places[0]) > 1e-3  # it did move
