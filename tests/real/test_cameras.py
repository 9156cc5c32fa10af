"""Files and folders are played in order, at their rate and shape; devices say what is wrong."""

import time

import cv2
import numpy as np
import pytest

from robostack.real.cameras import CameraError, Stillness, fit, open_source


def numbered(count: int, size=(24, 32)):
    """Pictures whose brightness tells their number."""
    return [np.full((*size, 3), 20 * i, np.uint8) for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    for i, image in enumerate(numbered(4)):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), image)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50.0, (32, 24))
    for image in numbered(6):
        writer.write(image)
    writer.release()
    return path


def means(source, count):
    return [float(source.read().image.mean()) for _ in range(count)]


def test_a_folder_is_played_in_order_again_and_again(folder):
    source = open_source(str(folder), hz=500)
    assert means(source, 6) == [0, 20, 40, 60, 0, 20]
    source.close()


def test_without_a_loop_it_ends(folder):
    source = open_source(str(folder), hz=500, loop=False)
    assert means(source, 4) == [0, 20, 40, 60]
    with pytest.raises(StopIteration):
        source.read()


def test_a_video_is_played_at_its_own_rate(video):
    source = open_source(str(video))
    begin = time.monotonic()
    assert means(source, 6) == pytest.approx([0, 20, 40, 60, 80, 100], abs=2)
    assert time.monotonic() - begin > 0.09  # five periods of 1/50 s
    source.close()


def test_colours_are_red_green_blue(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # of OpenCV's BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    assert open_source(str(tmp_path), hz=500).read().image[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "text, words",
    [
        ("/dev/video97", "camera /dev/video97 cannot be opened: is it plugged in"),
        ("nowhere.mp4", "expected the number of a camera .* there is no such file"),
    ],
)
def test_what_is_not_there_is_said(text, words):
    with pytest.raises(CameraError, match=words):
        open_source(text)


def test_files_that_are_no_pictures_are_said(tmp_path):
    with pytest.raises(CameraError, match="holds no pictures"):
        open_source(str(tmp_path))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    with pytest.raises(CameraError, match="bad.mp4 is no video"):
        open_source(str(bad))


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(16, 16), (48, 64), (20, 10)])
def test_pictures_get_the_size_that_is_asked_for(how, size):
    image = np.full((24, 32, 3), 200, np.uint8)
    shrunk = fit(image, size, how)
    assert shrunk.shape == (*size, 3) and shrunk.dtype == np.uint8 and shrunk.flags["C_CONTIGUOUS"]
    if how != "pad":
        assert (shrunk == 200).all()
    else:  # nothing is lost: the picture's share of the area, to a row of pixels
        bright = (shrunk[..., 0] == 200).sum()
        scale = min(size[0] / 24, size[1] / 32)
        assert bright == pytest.approx(scale**2 * 24 * 32, rel=0.15)


def test_cropping_keeps_the_middle_and_the_shape_of_things():
    image = np.zeros((60, 80, 3), np.uint8)
    cv2.circle(image, (40, 30), 15, (255, 255, 255), -1)
    shrunk = fit(image, (30, 30)) > 127
    rows, columns = np.argwhere(shrunk[..., 0]).T
    assert np.ptp(rows) == np.ptp(columns)  # still a circle
    assert rows.mean() == pytest.approx(15, abs=0.6) and columns.mean() == pytest.approx(
        15, abs=0.6
    )
    assert fit(image, (60, 80)) is image
    with pytest.raises(ValueError, match="fit: expected crop, pad or stretch, got 'warp'"):
        fit(image, (30, 30), "warp")


def test_a_still_picture_is_noticed_after_its_time_and_forgiven_when_it_moves():
    first, second = numbered(2)
    watch = Stillness(1.0)
    assert [watch.see(first, t) for t in (0.0, 0.5, 1.0)] == [0, 0, 0]
    assert watch.see(first, 1.5) == 1.5
    assert watch.see(second, 1.6) == 0
    off = Stillness(0)
    assert [off.see(first, t) for t in (0.0, 100.0)] == [0, 0]
