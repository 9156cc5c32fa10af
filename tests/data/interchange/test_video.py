"""What was written at a time is what is read at that time, or an error says why not."""

import numpy as np
import pytest
from exchanged import pictures

from robostack.data.interchange.report import BadEpisode
from robostack.data.interchange.video import VideoWriter, psnr, read_video

FRAMES = pictures(30, (32, 48), 0)


@pytest.fixture
def video(tmp_path):
    writer = VideoWriter(tmp_path / "film.mp4", 10.0, (32, 48), "lossless", 0)
    writer.write(FRAMES[:12])
    writer.write(FRAMES[12:])
    writer.close()
    return tmp_path / "film.mp4"


@pytest.mark.parametrize(("start", "count"), [(0, 30), (0, 1), (12, 18), (13, 5), (29, 1)])
def test_any_stretch_is_read_exactly(video, start, count):
    found = read_video(video, start / 10, count, 10.0, "x")
    assert np.array_equal(found, FRAMES[start : start + count])


@pytest.mark.parametrize("fps", [5.0, 11.0, 20.0])
def test_another_rate_is_an_error_that_names_both(video, fps):
    with pytest.raises(BadEpisode, match=f"its rate is 10 Hz, not {fps:g} Hz"):
        read_video(video, 0.0, 12, fps, "x")


def test_an_end_that_comes_too_soon_says_how_much_there_was(video):
    with pytest.raises(BadEpisode, match="ends after 5 of 9 pictures"):
        read_video(video, 2.5, 9, 10.0, "x")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.95])
def test_a_cut_file_is_an_error_and_never_a_picture_too_few(video, share):
    data = video.read_bytes()
    video.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadEpisode, match="film.mp4"):
        read_video(video, 0.0, 30, 10.0, "x")


def test_the_worst_picture_counts():
    other = FRAMES.copy()
    assert psnr(FRAMES, other) == float("inf")
    other[3] = FRAMES[3] ^ 1  # off by one everywhere
    assert psnr(FRAMES, other) == pytest.approx(20 * np.log10(255))
