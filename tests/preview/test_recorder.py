"""The timeline's memory: bounded, in order, and gone when it is switched off."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch

from taesd_ext.preview.frame import Frame, preview_image
from taesd_ext.preview.recorder import Recorder


def frame_of(number: int, step: int | None = None, side: int = 32, shade: float = 0.5) -> Frame:
    image = torch.full((1, 3, side, side), shade)
    image[..., : side // 2] = torch.rand(3, side, side // 2, generator=torch.Generator().manual_seed(number))
    return Frame(number, step or number, preview_image(image), (side * 4, side * 4), "1/4", "taesd", 1.5)


def record(recorder: Recorder, frames: int, title: str = "job") -> None:
    recorder.begin(title, frames)
    for number in range(1, frames + 1):
        recorder.add(frame_of(number))


def test_frames_come_back_as_they_were_sent_to_the_page():
    recorder = Recorder(clock=lambda: 12.0)
    recorder.begin("a cat", 20)
    frame = frame_of(1, step=7)
    recorder.add(frame)

    (job,) = recorder.jobs()
    assert (job.title, job.steps, job.started) == ("a cat", 20, 12.0)
    (kept,) = job.frames
    assert kept.data == frame.image.data
    assert (kept.step, kept.full_size, kept.detail) == (7, (128, 128), "1/4")
    assert kept.picture().tobytes() == frame.image.picture.tobytes()
    assert recorder.size == job.size == len(kept.data)


def test_a_frame_polled_again_is_kept_once():
    recorder = Recorder()
    recorder.begin()
    for number in (1, 1, 2, 2, 1):
        recorder.add(frame_of(number))
    recorder.add(None)

    assert [frame.step for frame in recorder.jobs()[0].frames] == [1, 2]


def test_each_job_has_its_own_frames_and_the_newest_comes_first():
    recorder = Recorder()
    record(recorder, 3, "first")
    recorder.begin("nobody looked")
    record(recorder, 2, "second")

    assert [(job.title, len(job.frames)) for job in recorder.jobs()] == [("second", 2), ("first", 3)]
    assert recorder.job(recorder.jobs()[1].id).title == "first"
    assert recorder.job(99) is None


def test_a_job_has_its_number_whether_it_is_kept_or_not_and_is_finished_when_it_says_so():
    recorder = Recorder()
    recorder.enabled = False
    assert recorder.begin() == 1
    recorder.enabled = True
    for number in (2, 3):
        assert recorder.begin() == number
        recorder.add(frame_of(1))
    recorder.finish()
    assert [(job.id, job.finished) for job in recorder.jobs()] == [(3, True), (2, False)]


def test_the_oldest_job_goes_first():
    one = len(frame_of(1).image.data)
    recorder = Recorder(limit=6 * one + one // 2)
    for title in ("a", "b", "c"):
        record(recorder, 3, title)

    assert [job.title for job in recorder.jobs()] == ["c", "b"]
    assert recorder.size <= 6.5 * one


def test_a_job_too_large_is_thinned_and_keeps_its_newest_frame():
    one = len(frame_of(1).image.data)
    recorder = Recorder(limit=8 * one)
    record(recorder, 50)

    steps = [frame.step for frame in recorder.jobs()[0].frames]
    assert steps[-1] == 50
    assert steps[0] == 1
    assert steps == sorted(steps)
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 20
    assert recorder.size <= 8 * one


def test_a_frame_larger_than_everything_is_not_kept():
    recorder = Recorder(limit=10)
    record(recorder, 3)

    assert recorder.jobs() == []
    assert recorder.size == 0


def test_switched_off_nothing_is_kept():
    recorder = Recorder()
    record(recorder, 2)
    recorder.enabled = False
    record(recorder, 2)
    assert recorder.jobs() == []

    recorder.enabled = True
    recorder.add(frame_of(1))
    assert recorder.jobs() == [], "a frame without a job belongs nowhere"
    record(recorder, 1)
    assert len(recorder.jobs()) == 1


@pytest.mark.parametrize("threads", [6])
def test_many_threads_may_add_and_look_at_once(threads):
    recorder = Recorder(limit=40 * len(frame_of(1).image.data))
    failures = []

    def work(seed: int) -> None:
        try:
            for number in range(1, 20):
                recorder.begin(str(seed)) if number % 7 == 0 else recorder.add(frame_of(number))
                for job in recorder.jobs():
                    assert job.size > 0
        except Exception as error:
            failures.append(error)

    running = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()

    assert not failures
    assert recorder.size == sum(job.size for job in recorder.jobs())
