"""Previews and steps that are saved as the host saves its pictures, and the page for a second screen."""

import base64
import io
import sys
from types import SimpleNamespace

import pytest
import torch
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image

from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.errors import TaesdError
from taesd_ext.host.accordion import SECOND_SCREEN_PATH as PATH
from taesd_ext.host.infotext import PREVIEW_DETAIL
from taesd_ext.settings import INFOTEXT_STEP


@pytest.fixture
def saved(host, monkeypatch) -> list[tuple[Image.Image, dict[str, str]]]:
    """(picture, parameters) of each picture that the host was asked to save."""
    pictures = []

    def save_image(picture, folder, basename, seed, prompt, kind, info):
        parameters = dict(pair.split(": ", 1) for pair in info.split("\n")[-1].split(", "))
        pictures.append((picture, parameters))
        return f"{len(pictures)}.png", None

    monkeypatch.setitem(sys.modules, "modules.images", SimpleNamespace(save_image=save_image))
    processed = SimpleNamespace(infotext=lambda p, place: f"scene\nSteps: {p.steps}, Version: 1")
    monkeypatch.setattr(host.processing, "Processed", lambda p, images: processed, raising=False)
    return pictures


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4]), (9, [])])
def test_every_n_steps_is_saved_in_full_after_the_job(host, extension, saved, every, steps):
    def full(latent):  # each latent gives another picture
        return latent[:, :3].repeat_interleave(8, -1).repeat_interleave(8, -2)

    seen = []
    host.model.decode_first_stage = full
    host.opts.taesd_ext_save_every = every
    host.opts.live_preview_fast_interrupt = True

    def on_step(_p, step):
        seen.append(host.state.current_latent.half().float())
        host.state.interrupted = step == 3

    p, _ = host.generate(batch=2, on_step=on_step)
    wanted = [(f"{step}/4", latent) for step in steps for latent in seen[step - 1].split(1)]
    assert [parameters[INFOTEXT_STEP] for _, parameters in saved] == [step for step, _ in wanted]
    for (picture, _), (_, latent) in zip(saved, wanted, strict=True):
        assert picture.tobytes() == image_to_picture((full(latent) / 2 + 0.5).clamp(0, 1)).tobytes()
    assert p.extra_generation_params == {"VAE Decoder": "TAESD"} | {
        key: p.extra_generation_params[key] for key in p.extra_generation_params if key == "TAESD model"
    }, "the picture's own"


def test_a_preview_is_saved_as_it_was_shown_at_the_pictures_size(host, extension, saved):
    host.opts.taesd_ext_detail = "1/4"

    def on_step(_p, step):
        host.poll()
        if step == 2:
            for number in (0, 1):
                extension.pictures.save_preview(number)
            with pytest.raises(TaesdError):
                extension.pictures.save_preview(99)

    host.generate(on_step=on_step)
    assert [picture.size for picture, _ in saved] == [(16, 16)] * 2
    assert [parameters[INFOTEXT_STEP] for _, parameters in saved] == ["3/4", "1/4"]
    assert {parameters[PREVIEW_DETAIL] for _, parameters in saved} == {extension.previews.session.frame.detail}
    with pytest.raises(TaesdError):
        extension.pictures.save_preview()


def test_a_moment_that_was_chosen_while_its_job_ran_gets_the_jobs_parameters(host, extension, saved):
    """Its full picture waits for the job, and then nobody holds the host's object any longer."""
    chosen = []
    host.generate(on_step=lambda _p, step: chosen.extend(extension.history.moments(1) if step == 2 else ()))
    extension.history.jobs.finish(1, ["scene\nSteps: 4, Seed: 7, Version: 1"], [7])
    host.processing.Processed = None
    for kept in chosen:
        extension.pictures.save(Image.new("RGB", (16, 16)), kept, None)
    assert [parameters[INFOTEXT_STEP] for _, parameters in saved] == ["3/4", "2/4", "1/4"]
    assert {parameters["Seed"] for _, parameters in saved} == {"7"}


def test_a_full_disk_is_told(host, screen, monkeypatch):
    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(sys.modules, "modules.images", SimpleNamespace(save_image=full_disk))
    client, _ = screen
    answers = []
    host.generate(on_step=lambda _p, _step: (host.poll(), answers.append(client.post(f"{PATH}/save", json={}))))
    assert {answer.status_code for answer in answers} == {409}
    assert all("No space left" in answer.json()["detail"] for answer in answers)


@pytest.fixture
def screen(host, extension):
    """The page for a second screen, and who may see it."""
    host.shared.cmd_opts = SimpleNamespace()
    app, refused = FastAPI(), []

    @app.get("/login_check")
    def login_check():
        if refused:
            raise HTTPException(401)

    extension.add_routes(None, app)
    return TestClient(app), refused


@pytest.mark.parametrize(("method", "kind"), [("TAESD", "PNG"), ("Approx cheap", "JPEG")])
def test_the_second_screen_follows_a_job_whoever_draws_its_previews(host, screen, method, kind):
    client, _ = screen
    host.opts.data.update(show_progress_type=method, show_progress_every_n_steps=0)
    answers = []

    def ask(_p=None, _step=None):
        last = answers[-1] if answers else {"job": "", "preview": 0}
        answers.append(client.get(f"{PATH}/now", params={"job": last["job"], "preview": last["preview"]}).json())

    ask()
    host.generate(on_step=ask)
    ask()
    assert [answer["active"] for answer in answers] == [False, *[True] * 4, False]
    assert len({answer["job"] for answer in answers[1:]}) == 1
    assert [answer["preview"] for answer in answers] == [0, 1, 2, 3, 4, 4]
    assert [bool(answer["picture"]) for answer in answers] == [False, *[True] * 4, False], "each once"
    data = base64.b64decode(answers[1]["picture"].partition(",")[2])
    assert Image.open(io.BytesIO(data)).format == kind
    assert {answer["steps"] for answer in answers[1:5]} == {4}


def test_the_second_screen_is_as_private_as_the_webui(host, screen):
    client, refused = screen
    requests = [("GET", PATH), ("GET", f"{PATH}/now"), ("POST", f"{PATH}/save")]
    assert client.get(PATH).headers["content-type"].startswith("text/html")
    for code, change in ((401, lambda: refused.append(1)), (403, refused.clear)):
        change()
        host.shared.cmd_opts.disable_extension_access = code == 403
        assert {client.request(method, path, json={}).status_code for method, path in requests} == {code}


def test_without_a_log_in_to_stand_behind_there_is_no_second_screen(host, extension):
    app = FastAPI()
    extension.add_routes(None, app)
    assert TestClient(app).get(PATH).status_code == 404


def test_save_in_one_click(host, screen, saved):
    client, _ = screen

    def on_step(_p, step):
        host.poll()
        answers.append(client.post(f"{PATH}/save", json={"preview": step}))

    answers = []
    host.generate(on_step=on_step)
    assert [answer.json() for answer in answers] == [{"file": f"{number}.png"} for number in range(1, 5)]
    assert client.post(f"{PATH}/save", json={}).status_code == 409
    assert torch.is_tensor(host.state.current_latent), "nothing of the job was changed"
