from __future__ import annotations

import functools
import threading
import types

import pytest

from taesd_ext.host.patch import HostPatch


def host():
    module = types.SimpleNamespace()
    module.double = lambda number: 2 * number
    return module


def plus_100(original, number):
    return original(number) + 100


def test_identity_patched_identity_twice():
    module = host()
    before = module.double
    patch = HostPatch(module, "double", plus_100)
    for _ in range(2):
        assert patch.apply()
        assert module.double(1) == 102
        assert module.double is not before
        patch.undo()
        assert module.double is before
        assert not patch.applied


def test_applied_three_times_it_wraps_once():
    module = host()
    before = module.double
    patch = HostPatch(module, "double", plus_100)
    for _ in range(3):
        patch.apply()
    assert module.double(1) == 102
    for _ in range(3):
        patch.undo()
    assert module.double is before


def test_after_an_exception():
    module = host()
    before = module.double

    def failing(original, number):
        raise RuntimeError("in ours")

    patch = HostPatch(module, "double", failing)
    patch.apply()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="in ours"):
            module.double(1)
    patch.undo()
    assert module.double is before


def test_wrapped_by_another_later_ours_becomes_a_pass_through_and_comes_back():
    module = host()
    before = module.double
    patch = HostPatch(module, "double", plus_100)
    patch.apply()
    ours = module.double
    module.double = lambda number: ours(number) + 1000
    theirs = module.double
    assert module.double(1) == 1102
    assert patch.apply()
    assert module.double is theirs
    patch.undo()
    assert module.double is theirs
    assert module.double(1) == 1002
    patch.apply()
    assert module.double(1) == 1102
    patch.undo()
    module.double = before


def test_reloaded_under_another_that_copies_our_mark():
    """functools.wraps gives the other's function our attributes; after Reload UI we are new objects."""
    module = host()
    old, new = HostPatch(module, "double", plus_100), HostPatch(module, "double", plus_100)
    old.apply()
    ours = module.double

    @functools.wraps(ours)
    def theirs(number):
        return ours(number) + 1000

    module.double = theirs
    old.undo()
    assert module.double is theirs
    assert new.apply()
    assert module.double(1) == 1102
    new.undo()
    assert module.double is theirs
    assert module.double(1) == 1002


def test_wrapped_by_another_before_us():
    module = host()
    before = module.double
    module.double = theirs = lambda number: before(number) + 1000
    patch = HostPatch(module, "double", plus_100)
    patch.apply()
    assert module.double(1) == 1102
    patch.undo()
    assert module.double is theirs


def test_others_unwind_in_the_wrong_order():
    module = host()
    before = module.double
    first, second = HostPatch(module, "double", plus_100), HostPatch(module, "double", plus_100)
    other_before = module.double
    module.double = other = lambda number: other_before(number) + 1000
    first.apply()
    module.double = other_before  # the other restores what it found, over ours
    assert module.double(1) == 2
    first.undo()
    assert module.double is before
    first.apply()
    assert module.double(1) == 102
    assert not second.apply(), "another copy of the extension"
    first.undo()
    assert module.double is before
    assert other(1) == 1002


def test_inherited_methods_are_taken_out_again():
    class Base:
        def value(self):
            return 1

    class State(Base):
        pass

    patch = HostPatch(State, "value", lambda original, state: original(state) + 1)
    patch.apply()
    assert State().value() == 2
    patch.undo()
    assert "value" not in vars(State)
    patch = HostPatch(Base, "value", lambda original, state: original(state) + 1)
    patch.apply()
    assert State().value() == 2
    patch.undo()
    assert State().value() == 1


def test_a_missing_function_is_left_alone():
    module = types.SimpleNamespace()
    patch = HostPatch(module, "double", plus_100)
    assert not patch.apply()
    patch.undo()
    assert not hasattr(module, "double")


def test_two_threads_use_the_replacement_at_once():
    module = host()
    barrier = threading.Barrier(2, timeout=5)

    def waiting(original, number):
        barrier.wait()
        return original(number) + 100

    patch = HostPatch(module, "double", waiting)
    patch.apply()
    got = []
    threads = [threading.Thread(target=lambda: got.append(module.double(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [102, 102]
