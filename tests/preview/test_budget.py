"""The chooser of detail: what it promises about time, with made-up clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taesd_ext.preview.budget import TYPICAL_COST, PreviewBudget, SpeedBook

DETAILS = tuple(TYPICAL_COST)
MS = {"1/8": 10.0, "1/4": 40.0, "1/2": 140.0, "full": 300.0}


class TestSpeedBook:
    def test_knows_nothing_at_first(self):
        assert SpeedBook().predict("full", 0.25) is None
        assert SpeedBook().predictions(DETAILS, 0.25) == {}

    def test_takes_the_median_so_that_one_slow_frame_does_not_count(self):
        book = SpeedBook()
        for ms in (10, 11, 900, 10, 9):
            book.record("1/8", 0.25, ms)
        assert book.predict("1/8", 0.25) == 10

    def test_forgets_what_is_long_ago(self):
        book = SpeedBook()
        for ms in [100] * 20 + [10] * 9:
            book.record("1/8", 0.25, ms)
        assert book.predict("1/8", 0.25) == 10

    def test_other_sizes_follow_from_the_known_ones(self):
        book = SpeedBook()
        book.record("full", 0.25, 100)
        assert book.predict("full", 1.0) == pytest.approx(400)
        assert book.predict("full", 0.125) == pytest.approx(50)
        book.record("full", 1.0, 600)
        assert book.predict("full", 0.625) == pytest.approx(350)
        assert book.predict("full", 2.0) == pytest.approx(1200)

    def test_other_details_follow_from_the_nearest_measured_one(self):
        book = SpeedBook()
        book.record("1/8", 0.25, 7)
        assert book.predict("full", 0.25) == pytest.approx(7 / TYPICAL_COST["1/8"])
        book.record("1/2", 0.25, 100)
        assert book.predict("full", 0.25) == pytest.approx(100 / TYPICAL_COST["1/2"])
        assert book.predict("unheard of", 0.25) is None

    def test_where_others_work_is_in_the_timings_the_least_is_believed_and_counted(self):
        book = SpeedBook(shared_queue=True)
        assert [book.record("1/8", 0.25, ms) for ms in (5000, 500, 10, 900)] == [0, 0, 0, 10]
        assert book.predict("1/8", 0.25) == 10
        assert SpeedBook().record("1/8", 0.25, 900) == 900

    def test_a_first_frame_that_compiles_does_not_starve_the_job(self):
        book = SpeedBook(shared_queue=True)
        budget = PreviewBudget(DETAILS, book, 0.25, share=0.03, now=0.0)
        assert budget.choose(1.0) == DETAILS[0]
        assert budget.record(DETAILS[0], 5.0) == 0
        assert book.predict(DETAILS[0], 0.25) is None
        assert budget.choose(7.0) == DETAILS[0]
        budget.record(DETAILS[0], 0.01)
        assert budget.choose(8.0, frames_left=1) is not None

    @pytest.mark.parametrize("nonsense", [(0, 5), (0.25, -1), (0.25, float("nan")), (-1, 5)])
    def test_ignores_nonsense(self, nonsense):
        book = SpeedBook()
        book.record("full", *nonsense)
        assert book.predict("full", 0.25) is None


class Job:
    """A generation whose steps and frames take what it is told; its clock moves only here."""

    def __init__(self, costs: dict[str, float], share: float, book: SpeedBook | None = None) -> None:
        self.now = 100.0
        self.costs = costs
        self.shown: list[str | None] = []
        self.budget = PreviewBudget(DETAILS, book or SpeedBook(), 0.25, share=share, now=self.now)

    def frame(self, factor: float = 1.0, *, frames_left: float | None = None, last: bool = False) -> str | None:
        detail = self.budget.choose(self.now, frames_left=frames_left, last=last)
        if detail is not None:
            seconds = self.costs[detail] * factor / 1000
            self.now += seconds
            self.budget.record(detail, seconds)
        self.shown.append(detail)
        return detail

    def steps(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            self.frame()

    def whole(self, count: int, seconds: float) -> None:
        """A job of steps as long, whose number is known."""
        for step in range(1, count + 1):
            self.now += seconds
            self.frame(frames_left=count - step + 1, last=step == count)

    @property
    def used(self) -> float:
        return self.budget.spent / (self.now - 100.0 - self.budget.spent)


class TestPreviewBudget:
    def test_the_first_frame_comes_at_once_and_is_the_cheapest(self):
        job = Job(MS, 0.03)
        job.steps(1, 60)
        assert job.shown == ["1/8"]

    def test_slow_steps_get_full_detail_and_stay_within(self):
        job = Job(MS, 0.03)
        job.steps(20, 20)
        assert job.shown[5:] == ["full"] * 15
        assert job.used <= 0.03

    def test_fast_steps_are_shown_now_and_then(self):
        job = Job(MS, 0.03)
        job.steps(100, 0.1)
        assert set(job.shown) == {None, "1/8"}
        assert 15 <= job.shown.count("1/8") <= 30
        assert job.used <= 0.03 + 0.01 / 10

    def test_steps_that_nobody_looked_at_pay_for_a_finer_frame(self):
        job = Job(MS, 0.03)
        job.steps(20, 0.4)
        before = job.frame()
        job.now += 60
        assert DETAILS.index(job.frame()) > DETAILS.index(before)

    @pytest.mark.parametrize("seconds", [0.2, 0.4, 0.6, 1, 1.5, 2, 3, 4, 6])
    def test_detail_only_grows_and_the_budget_is_used(self, seconds):
        book = SpeedBook()
        for detail, ms in MS.items():
            book.record(detail, 0.25, ms)
        job = Job(MS, 0.03, book)
        job.whole(40, seconds)
        shown = [DETAILS.index(detail) for detail in job.shown if detail]
        assert shown == sorted(shown)
        assert 0.02 < job.used <= 0.03 or job.shown[2:] == ["full"] * 38

    def test_the_last_frame_is_full_only_if_it_fits(self):
        rich, poor = Job(MS, 0.03), Job(MS, 0.03)
        rich.frame()
        rich.now += 60
        assert rich.frame(last=True) == "full"
        poor.frame()
        poor.now += 0.5
        assert poor.frame(last=True) is None

    def test_a_frame_that_was_dearer_than_predicted_is_paid_back_first(self):
        job = Job(MS, 0.03)
        job.steps(3, 0.4)
        job.now += 0.4
        job.frame(50)
        spent = job.budget.spent
        while job.frame() is None:
            job.now += 0.4
        assert spent <= 0.03 * (job.now - 100.0 - spent)

    @given(
        share=st.floats(0.005, 0.2),
        costs=st.tuples(st.floats(0.5, 20), st.floats(1, 8), st.floats(1, 8), st.floats(1, 8)),
        steps=st.lists(st.tuples(st.floats(0.001, 20), st.floats(0.2, 6)), min_size=1, max_size=60),
    )
    def test_never_takes_more_than_its_share_and_one_preview(self, share, costs, steps):
        ms, by_detail = 1.0, {}
        for detail, factor in zip(DETAILS, costs, strict=True):
            ms *= factor
            by_detail[detail] = ms
        job = Job(by_detail, share)
        dearest = 0.0
        for seconds, factor in steps:
            job.now += seconds
            detail = job.frame(factor)
            if detail is not None:
                dearest = max(dearest, by_detail[detail] * factor / 1000)
            allowed = share * (job.now - 100.0 - job.budget.spent) + dearest
            assert job.budget.spent <= allowed + 1e-9
