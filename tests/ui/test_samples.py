"""The sample pictures are what they say, the same each time, and shared safely."""

from __future__ import annotations

import random

import numpy as np
import pytest

from taesd_ext.ui.samples import sample_names, sample_picture


@pytest.mark.parametrize("name", sample_names())
def test_a_sample_is_a_picture_of_the_asked_size(name):
    picture = sample_picture(name, 96)

    assert picture.size == (96, 96)
    assert picture.mode == "RGB"
    assert np.asarray(picture).std() > 20, "a flat picture shows nothing"


@pytest.mark.parametrize("name", sample_names())
def test_a_sample_is_the_same_each_time_and_touches_no_random_state(name):
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].copy(), random.getstate()
    first = sample_picture(name, 64)
    sample_picture.cache_clear()
    second = sample_picture(name, 64)

    assert first.tobytes() == second.tobytes()
    assert (np.random.get_state()[1] == before[0]).all()
    assert random.getstate() == before[1]
