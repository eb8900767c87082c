"""One function of a host, replaced and put back, whoever else wraps it."""

import functools
import threading
from types import SimpleNamespace

import pytest

from taesd_ext.host.patch import HostPatch


@pytest.fixture
def module():
    return SimpleNamespace(double=lambda number: 2 * number)


def plus_100(original, number):
    return original(number) + 100


def wrap(module):
    """Another extension wraps what it finds, copying our mark as functools.wraps does; gives its function."""
    below = module.double

    @functools.wraps(below)
    def theirs(number):
        return below(number) + 1000

    module.double = theirs
    return theirs


@pytest.mark.parametrize("wrapped", ["never", "before us", "after us"])
def test_in_and_out_and_in_again(module, wrapped):
    """A wrap that is still there passes through ours, which adds nothing once it is out."""
    if wrapped == "before us":
        wrap(module)
    before = module.double
    patch = HostPatch(module, "double", plus_100)
    patch.apply()
    if wrapped == "after us":
        before = wrap(module)
        assert patch.apply()
        assert module.double is before
    theirs = 0 if wrapped == "never" else 1000
    for _ in range(2):
        assert all(patch.apply() for _ in range(2))
        assert (module.double(1), patch.applied) == (102 + theirs, True)
        for _ in range(2):
            patch.undo()
        assert (module.double, module.double(1), patch.applied) == (before, 2 + theirs, False)


def test_after_an_exception(module):
    patch = HostPatch(module, "double", lambda original, number: original(number) / 0)
    patch.apply()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            module.double(1)


def test_reloaded_under_another_that_copies_our_mark(module):
    """After Reload UI we are new objects."""
    old, new = (HostPatch(module, "double", plus_100) for _ in range(2))
    old.apply()
    theirs = wrap(module)
    old.undo()
    assert new.apply()
    assert module.double(1) == 1102
    new.undo()
    assert (module.double, module.double(1)) == (theirs, 1002)


def test_another_restores_what_it_found_over_ours_and_a_second_copy_stays_out(module):
    before = module.double
    first, second = (HostPatch(module, "double", plus_100) for _ in range(2))
    wrap(module)
    first.apply()
    module.double = before
    first.undo()
    assert module.double is before
    first.apply()
    assert not second.apply()
    assert module.double(1) == 102


@pytest.mark.parametrize("inherited", [True, False])
def test_methods_are_left_where_they_were_defined(inherited):
    class Base:
        def value(self):
            return 1

    class State(Base):
        pass

    owner = State if inherited else Base
    patch = HostPatch(owner, "value", lambda original, state: original(state) + 1)
    patch.apply()
    assert State().value() == 2
    patch.undo()
    assert State().value() == 1
    assert ("value" in vars(owner)) is not inherited


def test_a_missing_function_is_left_alone(module):
    patch = HostPatch(module, "triple", plus_100)
    assert not patch.apply()
    patch.undo()
    assert not hasattr(module, "triple")


def test_two_threads_use_the_replacement_at_once(module):
    barrier, got = threading.Barrier(2, timeout=120), []
    HostPatch(module, "double", lambda original, number: barrier.wait() * 0 + original(number) + 100).apply()
    threads = [threading.Thread(target=lambda: got.append(module.double(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [102, 102]
