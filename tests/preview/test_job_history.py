"""What is kept of the last jobs: bounded, in order, and gone when it is switched off."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from taesd_ext.preview.frame import Frame, preview_image
from taesd_ext.preview.job_history import FEWEST, JobHistory
from taesd_ext.preview.latent_copies import LatentCopies

SDXL = (1, 4, 128, 128)
"""The latent of a picture of 1024 pixels: 128 KB in half precision."""


def frame_of(number: int, step: int | None = None, side: int = 32, shade: float = 0.5) -> Frame:
    image = torch.full((1, 3, side, side), shade)
    image[..., : side // 2] = torch.rand(3, side, side // 2, generator=torch.Generator().manual_seed(number))
    return Frame(number, step or number, preview_image(image), (side * 4, side * 4), "1/4", "taesd", 1.5)


def record(history: JobHistory, frames: int, title: str = "job") -> int:
    job = history.begin(title, frames)
    for number in range(1, frames + 1):
        history.add_frame(job, frame_of(number))
    return job


def sample(history: JobHistory, steps: int, shape: tuple[int, ...]) -> int:
    job = history.begin("job", steps)
    for step in range(1, steps + 1):
        history.add_latents(job, step, steps, torch.full(shape, step, dtype=torch.float16), None)
    history.add_finished(job, torch.full(shape, steps, dtype=torch.float16), None)
    history.finish(job)
    return job


def test_frames_come_back_as_they_were_sent_to_the_page():
    history = JobHistory(clock=lambda: 12.0)
    frame = frame_of(1, step=7)
    history.add_frame(history.begin("a cat", 20), frame)
    (job,) = history.jobs()
    (kept,) = job.frames
    assert (job.title, job.steps, job.started) == ("a cat", 20, 12.0)
    assert (kept.image.data, kept.step, kept.full_size, kept.detail) == (frame.image.data, 7, (128, 128), "1/4")
    assert kept.image.picture.tobytes() == frame.image.picture.tobytes()
    assert history.size == job.size == len(kept.image.data)


def test_each_job_has_its_own_frames_once_and_the_newest_comes_first():
    history = JobHistory()
    first = record(history, 3, "first")
    history.begin("nobody looked")
    record(history, 2, "second")
    for number in (3, 1, 4):
        history.add_frame(first, frame_of(number))
    history.add_frame(first, None)
    assert [(job.title, [frame.step for frame in job.frames]) for job in history.jobs()] == [
        ("second", [1, 2]), ("first", [1, 2, 3, 4]),
    ]  # fmt: skip
    assert history.job(first).title == "first"
    assert history.job(99) is None


def test_a_job_has_its_number_whether_it_is_kept_or_not_and_is_finished_when_it_says_so():
    history = JobHistory()
    history.keep(frames=False, latents=False)
    assert history.begin() == 1
    history.keep(frames=True, latents=True)
    for number in (2, 3):
        assert history.begin() == number
        history.add_frame(number, frame_of(1))
    history.finish(3)
    assert [(job.id, job.finished) for job in history.jobs()] == [(3, True), (2, False)]


@pytest.mark.parametrize("count", [9, 13, 20, 33])
def test_a_job_too_large_keeps_its_ends_and_an_even_choice_of_steps_between(count):
    history = JobHistory(limit=count * 2 * 4 * 2 * 2)
    job = history.begin()
    for step in range(1, 41):
        history.add_latents(job, step, 40, torch.zeros(1, 4, 2, 2).half(), None)
    steps = [kept.step for kept in reversed(history.moments(job))]
    assert (len(steps), steps[0], steps[-1]) == (count, 1, 40)
    halves = [sum(step <= 20 for step in steps), sum(step > 20 for step in steps)]
    assert abs(halves[0] - halves[1]) <= 2
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 2 * 40 / count


def test_what_is_larger_than_everything_is_not_kept():
    history = JobHistory(limit=10)
    record(history, 3)
    sample(history, 3, SDXL)
    assert history.jobs() == []
    assert history.size == 0


def test_two_hundred_jobs_stay_within_the_bound_and_the_oldest_went():
    latent = 2 * 4 * 8 * 8
    history = JobHistory(100 * latent)
    for _ in range(200):
        sample(history, 20, (1, 4, 8, 8))
        assert history.size <= 100 * latent
        assert history.size == sum(job.size for job in history.jobs())
    jobs = history.jobs()
    assert [job.id for job in jobs] == list(range(200, 200 - len(jobs), -1))
    assert len(jobs[0].moments) == 20
    assert all(len(job.moments) >= FEWEST for job in jobs)


def test_the_pictures_of_a_batch_have_their_own_parameters():
    history = JobHistory()
    job = history.begin("two batches of two", extra={"tab": "txt2img"})
    for batch in range(2):
        values = torch.tensor([[2 * batch], [2 * batch + 1]]).reshape(2, 1, 1, 1).half()
        history.add_latents(job, batch + 1, 2, values, None, first=2 * batch)
        history.add_finished(job, values, None)
    history.finish(job, ["p0", "p1", "p2", "p3"], [10, 11, 12, 13])
    for kept in history.moments(job):
        place = int(kept.latent.item())
        assert (kept.picture, kept.infotext) == (place + 1, f"p{place}")
        assert dict(kept.extra) == {"tab": "txt2img", "seed": 10 + place}
    assert [kept.step for kept in history.moments(job)] == [None] * 4 + [2, 2, 1, 1]


def test_pictures_that_had_to_go_leave_the_others_their_parameters():
    history = JobHistory(3 * 2 * 4)
    job = history.begin("six batches of one")
    for place in range(6):
        history.add_finished(job, torch.full((1, 4, 1, 1), place).half(), None, first=history.finished_count(job))
    history.finish(job, [f"p{place}" for place in range(6)], range(6))
    assert [(kept.picture, kept.infotext, kept.latent.mean().item()) for kept in history.moments(job)] == [
        (place + 1, f"p{place}", place) for place in (3, 4, 5)
    ]


@pytest.mark.parametrize(("frames", "latents"), [(False, True), (True, False), (False, False)])
def test_what_is_switched_off_is_dropped_and_not_kept(frames, latents):
    history = JobHistory()
    for _ in range(2):
        sample(history, 2, (1, 4, 2, 2))
        record(history, 2)
        history.keep(frames=frames, latents=latents)
    assert any(job.frames for job in history.jobs()) == frames
    assert bool(history.finished()) == latents
    assert history.size == sum(job.size for job in history.jobs())


def test_copies_are_half_precision_and_no_view_of_the_samplers_tensor():
    arrived: list[torch.Tensor] = []
    latent = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        LatentCopies().take(latent, arrived.append)
    wanted = latent.half()
    latent.zero_()
    assert torch.equal(arrived[0], wanted)
    assert not arrived[0].is_inference()


def test_many_threads_may_add_and_look_at_once():
    history = JobHistory(limit=40 * len(frame_of(1).image.data))

    def work(seed: int) -> None:
        job = history.begin(str(seed))
        for number in range(1, 20):
            job = history.begin(str(seed)) if number % 7 == 0 else job
            history.add_frame(job, frame_of(number))
            history.add_latents(job, number, 20, torch.zeros(1, 4, 4, 4).half(), None)
            assert all(kept.size > 0 for kept in history.jobs())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert history.size == sum(job.size for job in history.jobs())
