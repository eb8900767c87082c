"""Long work of a page: seen while it runs, cancelled, and over when the page is gone."""

import threading

import pytest
import torch
from events import finished, wait_for

from taesd_ext.errors import TaesdError
from taesd_ext.ui import work
from taesd_ext.ui.work import LongAction, Task, interruptible


def until_stopped(task: Task) -> tuple[str, list[str]]:
    task.report(0.5, "half", ["so far"])
    task.stop.wait(120)
    task.check()
    return "never", ["never"]


def test_it_is_seen_while_it_runs_and_its_end_may_be_asked_for_again():
    hold = threading.Event()

    def body(task, number):
        task.report(0.5, "half", [f"{number} so far"])
        hold.wait(120)
        return "all", [f"{number} in all"]

    action = LongAction(body, 1, "poll")
    bar, key, _ = action.start(7)
    assert key in bar
    wait_for(lambda: action.look(key)[1] == "7 so far")
    assert "half" in action.look(key)[0]
    assert action.look(key)[0] != action.look(key)[0]  # or the page would not ask again
    hold.set()
    assert finished(action, key) == finished(action, key)
    assert action.look(key)[1] == "7 in all"


def test_a_second_page_waits():
    action = LongAction(until_stopped, 1, "poll")
    _, key, _ = action.start()
    refused = action.start()
    assert work.STILL_RUNNING in refused[0]
    assert refused[1] == ""
    work.leave(key)
    _, after, _ = action.start()  # though the first thread may not have seen it yet
    assert after
    work.leave(after)


def test_a_page_takes_over_from_itself_only(monkeypatch):
    takes_over = LongAction(until_stopped, 1, "poll")
    _, others, _ = takes_over.start_anew(None)
    _, first, _ = takes_over.start_anew(None)
    _, second, _ = takes_over.start_anew(first)
    assert "data-task" in takes_over.look(others)[0]
    # A question of before is still under way: its answer must not hide the second's bar.
    assert "value" not in takes_over.look(first)[0]
    assert "data-task" in takes_over.look(second)[0]
    monkeypatch.setattr(work, "REPLACED_SECONDS", 0)
    assert work.CANCELLED in finished(takes_over, first)[0]
    work.leave_all()
    assert work.CANCELLED in finished(takes_over, second)[0]


@pytest.mark.parametrize(
    ("error", "line"), [(TaesdError("It broke", "", "Mend it"), "It broke. Mend it."), (OSError("no"), "OSError: no")]
)
def test_work_that_fails_says_why(error, line):
    def body(_task):
        raise error

    action = LongAction(body, 0, "poll")
    assert line in finished(action, action.start()[1])[0]


def test_work_ends_when_nobody_asks_any_longer():
    now = [0.0]
    task = Task(lambda: now[0])
    runner = threading.Thread(target=task.run, args=(until_stopped, ()))
    runner.start()
    now[0] = work.PATIENCE - 1
    task.asked()
    now[0] += work.PATIENCE - 1
    assert not task.stop.wait(0.5)
    now[0] += 2
    assert task.stop.wait(120)
    runner.join()
    assert task.error == work.CANCELLED


def test_torch_stops_in_the_middle_of_a_network():
    task, layers = Task(), []

    def network(image: torch.Tensor) -> None:
        for layer in range(10):
            layers.append(layer)
            image = torch.nn.functional.relu(image)
            if layer == 3:
                task.stop.set()

    with pytest.raises(work.Stopped), interruptible(task):
        network(torch.zeros(1, 1, 8, 8))
    assert layers == [0, 1, 2, 3, 4]
    assert torch.relu(torch.ones(1)) == 1  # outside of it all is as before


def test_an_unknown_task_changes_nothing():
    work.leave("nobody's")
    assert LongAction(until_stopped, 1, "poll").look(None)[0] == ""
    assert work.CANCELLED in LongAction(until_stopped, 1, "poll").look("nobody's")[0]
