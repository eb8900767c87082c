"""The chooser of detail: what it promises about time, with made-up clocks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taesd_ext.preview.budget import TYPICAL_COST, PreviewBudget, SpeedBook

DETAILS = tuple(TYPICAL_COST)
MS = {"embedded": 5.0, "1/8": 10.0, "1/4": 40.0, "1/2": 140.0, "full": 300.0}


@pytest.mark.parametrize(
    ("timings", "predicted"),
    [
        pytest.param([], {("full", 0.25): math.inf}, id="nothing known"),
        pytest.param([("1/8", 0.25, ms) for ms in (10, 11, 900, 10, 9)], {("1/8", 0.25): 10}, id="one slow frame"),
        pytest.param([("1/8", 0.25, ms) for ms in [100] * 20 + [10] * 9], {("1/8", 0.25): 10}, id="long ago"),
        pytest.param(
            [("full", 0.25, 100), ("full", 1.0, 600)],
            {("full", 0.125): 50, ("full", 0.625): 350, ("full", 2.0): 1200},
            id="other sizes",
        ),
        pytest.param(
            [("1/8", 0.25, 7), ("1/2", 0.25, 100)],
            {("full", 0.25): 100 / TYPICAL_COST["1/2"], ("embedded", 0.25): 7 * 0.02 / 0.035, ("odd", 0.25): math.inf},
            id="other details, by the nearest",
        ),
        pytest.param(
            [("full", 0, 5), ("full", 0.25, -1), ("full", 0.25, math.nan), ("full", -1, 5)],
            {("full", 0.25): math.inf},
            id="nonsense",
        ),
    ],
)
def test_what_a_frame_will_cost(timings, predicted):
    book = SpeedBook()
    for detail, megapixels, ms in timings:
        book.record(detail, megapixels, ms)
    assert {key: book.predict(*key) for key in predicted} == pytest.approx(predicted)


def test_where_others_work_is_in_the_timings_the_least_is_believed_and_counted():
    book = SpeedBook(shared_queue=True)
    assert [book.record("1/8", 0.25, ms) for ms in (5000, 500, 10, 900)] == [0, 0, 0, 10]
    assert book.predict("1/8", 0.25) == 10
    assert SpeedBook().record("1/8", 0.25, 900) == 900


class Job:
    """A generation whose steps and frames take what it is told; its clock moves only here."""

    def __init__(self, costs: dict[str, float], share: float = 0.03, book: SpeedBook | None = None) -> None:
        self.now = 100.0
        self.costs, self.share, self.book = costs, share, book or SpeedBook()
        self.shown: list[str | None] = []
        self.budget = PreviewBudget(self.now)

    def frame(self, factor: float = 1.0, **left) -> str | None:
        detail = self.budget.choose(self.now, self.share, self.book.costs(DETAILS, 0.25), **left)
        if detail is not None:
            ms = self.costs[detail] * factor
            self.now += ms / 1000
            self.budget.record(detail, self.book.record(detail, 0.25, ms) / 1000)
        self.shown.append(detail)
        return detail

    @property
    def used(self) -> float:
        return self.budget.spent / (self.now - 100.0 - self.budget.spent)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5, 3, 6])
def test_detail_only_grows_and_the_budget_is_used(seconds):
    job = Job(MS)
    for detail, ms in MS.items():
        job.book.record(detail, 0.25, ms)
    for step in range(1, 41):
        job.now += seconds
        job.frame(frames_left=41 - step, last=step == 40)
    shown = [DETAILS.index(detail) for detail in job.shown if detail]
    assert shown == sorted(shown)
    assert 0.02 < job.used <= 0.03 or job.shown[2:] == ["full"] * 38


@pytest.mark.parametrize(("seconds", "detail"), [(60, "full"), (0.3, None)])
def test_the_last_frame_is_finer_or_none(seconds, detail):
    job = Job(MS)
    job.frame()
    job.now += seconds
    assert job.frame(last=True) == detail


@given(
    share=st.floats(0.005, 0.2),
    costs=st.tuples(st.floats(0.5, 20), *[st.floats(1, 8)] * (len(DETAILS) - 1)),
    steps=st.lists(st.tuples(st.floats(0.001, 20), st.floats(0.2, 50)), min_size=1, max_size=60),
)
def test_never_takes_more_than_its_share_and_one_preview(share, costs, steps):
    ms, by_detail = 1.0, {}
    for detail, factor in zip(DETAILS, costs, strict=True):
        ms *= factor
        by_detail[detail] = ms
    job, dearest = Job(by_detail, share), 0.0
    for seconds, factor in steps:
        job.now += seconds
        detail = job.frame(factor)
        if detail is not None:
            dearest = max(dearest, by_detail[detail] * factor / 1000)
        allowed = share * (job.now - 100.0 - job.budget.spent) + dearest
        assert job.budget.spent <= allowed + 1e-9
