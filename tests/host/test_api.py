"""The REST routes: what they give and whom they refuse."""

import base64
import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import BaseModel

from taesd_ext.codec.picture_file import image_to_picture, picture_to_image
from taesd_ext.errors import TaesdError
from taesd_ext.host import api
from taesd_ext.settings import OPTIONS

GET = (
    "status", "families", "files", "error", "settings", "timeline", "timeline/1/frames/1", "timeline/1/animation",
    "timeline/1/moments", "timeline/1/moments/1/picture", "timeline/1/moments/1/latent",
)  # fmt: skip
POST = ("settings", "encode", "decode", "benchmark", "timeline/1/moments/1/save")


def base64_picture(size=(40, 24), kind="png") -> str:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def picture_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_without_the_hosts_api_there_is_only_the_badges_route(client_of):
    client = client_of(api=False)

    assert client.get(api.BADGE).status_code == 200
    assert all(client.get(f"{api.PREFIX}/{path}").status_code == 404 for path in GET)
    assert all(client.post(f"{api.PREFIX}/{path}", json={}).status_code == 404 for path in POST)


def test_with_a_log_in_every_route_refuses_strangers_as_the_host_does(client_of):
    client = client_of(api_auth="anna:secret:with:colons,otto:geheim")

    for credentials in (None, ("anna", "wrong"), ("nobody", "secret"), ("anna", ""), ("", ""), ("änna", "ß")):
        answers = [client.get(f"{api.PREFIX}/{path}", auth=credentials) for path in GET]
        answers += [client.post(f"{api.PREFIX}/{path}", json={}, auth=credentials) for path in POST]
        assert {answer.status_code for answer in answers} == {401}
        assert all(answer.headers["www-authenticate"].startswith("Basic") for answer in answers)
    for credentials in (("anna", "secret:with:colons"), ("otto", "geheim")):
        assert client.get(f"{api.PREFIX}/status", auth=credentials).status_code == 200


def test_every_route_is_documented(client):
    described = client.get("/openapi.json").json()["paths"]
    ours = {path: list(methods.values()) for path, methods in described.items() if path.startswith(api.PREFIX)}

    assert len(ours) == 15
    assert all(method.get("description") for methods in ours.values() for method in methods)


def test_status_of_a_job(client, host):
    idle = client.get(f"{api.PREFIX}/status").json()
    assert (idle["active"], idle["frames"], idle["model"]) == (False, 0, "sd1")
    host.polled()

    done = client.get(api.BADGE).json()
    assert done == client.get(f"{api.PREFIX}/status").json()
    assert (done["active"], done["enabled"]) == (False, True)
    assert (done["step"], done["steps"], done["detail"], done["family"]) == (4, 4, "full", "taesd")
    assert done["frames"] == done["frame"] > 0
    assert done["milliseconds"] > 0


@pytest.mark.parametrize("scripts", [True, False])
def test_a_job_is_active_while_it_runs_and_not_after_it_broke_off(client, host, scripts):
    """Without scripts, or after an exception, nobody tells us of its end."""
    seen = []

    def on_step(_p, step):
        seen.append(client.get(api.BADGE).json()["active"])
        if scripts and step == 2:
            raise RuntimeError("CUDA out of memory")

    p = host.processing.Processing(scripts=[host.script] if scripts else None, on_step=on_step)
    with pytest.raises(RuntimeError) if scripts else contextlib.nullcontext():
        host.processing.process_images(p)
    assert len(seen) == (3 if scripts else 4)
    assert all(seen)
    assert not client.get(api.BADGE).json()["active"]


def test_a_webui_that_is_open_to_strangers_changes_nothing_and_shows_nobodys_pictures(host, extension, client_of):
    """A1111 sets it with --share and --listen."""
    client = client_of(disable_extension_access=True)
    host.polled()

    assert client.post(f"{api.PREFIX}/settings", json={"name": "interval", "value": 7}).status_code == 403
    assert host.opts.taesd_ext_interval == 1
    with pytest.raises(TaesdError):
        extension.options.set("interval", 7)
    assert client.get(f"{api.PREFIX}/timeline").json() == []
    assert extension.history.jobs.finished() == []
    assert client.get(api.BADGE).json()["frames"] == 4


def test_the_hosts_own_list_of_options_has_ours(host, extension):
    """Though it was described before they were added, as Forge does it."""

    class Described(BaseModel):
        show_progress_type: str | None = None

    def refused():
        raise HTTPException(401)

    host.shared.cmd_opts = SimpleNamespace(api=True, nowebui=False, api_auth=None)
    for dependencies, code in (([], 200), ([Depends(refused)], 401)):
        app = FastAPI()
        app.add_api_route("/sdapi/v1/options", lambda: host.opts.data, response_model=Described, methods=["GET"],
                          dependencies=dependencies)  # fmt: skip
        app.add_api_route("/{path:path}", lambda path: "everything else", methods=["GET"])
        extension.add_routes(None, app)
        answer = TestClient(app).get("/sdapi/v1/options")
        assert answer.status_code == code
        described = next(route for route in app.routes if route.path == "/sdapi/v1/options")
        extension.add_routes(None, app)
        assert any(route is described for route in app.routes), "it had them already"
        assert (
            code == 401
            or {option.key: host.opts.data[option.key] for option in OPTIONS}.items() <= answer.json().items()
        )


def test_families_and_files(client):
    families = {family["name"]: family for family in client.get(f"{api.PREFIX}/families").json()}
    assert families["taesd"]["in_use"]
    assert families["taesd"]["decoder"] == "taesd_decoder.safetensors"
    assert not families["taef1"]["in_use"]
    assert families["taef1"]["decoder"] is None

    files = client.get(f"{api.PREFIX}/files").json()
    assert len(files) == 6
    assert {file["state"] for file in files} == {"unverified"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no such names")
def test_a_file_whose_name_is_no_text_harms_nothing(client, extension, host, caplog):
    before = client.get(f"{api.PREFIX}/files").json()
    good = host.folder / "taesd_decoder.safetensors"
    for folder in (host.folder, *extension.host.vae_folders()):
        folder.mkdir(exist_ok=True)
        shutil.copy(good, os.fsdecode(os.fsencode(folder) + b"/caf\xe9.safetensors"))
        Path(os.fsdecode(os.fsencode(folder) + b"/of no interest \xe9.txt")).touch()

    answer = client.get(f"{api.PREFIX}/files")
    assert (answer.status_code, answer.json()) == (200, before)
    assert client.get(f"{api.PREFIX}/settings").status_code == 200
    json.dumps(extension.options.choices("final_vae"), ensure_ascii=False).encode()
    (said,) = {record.getMessage() for record in caplog.records if "caf" in record.getMessage()}
    assert r"caf\xe9.safetensors is left out" in said


def test_the_last_error_is_the_one_with_its_cure(client, extension, monkeypatch):
    assert client.get(f"{api.PREFIX}/error").json() == {"error": None}
    monkeypatch.setattr(type(extension.previews.session), "last_error", "It broke. Mend it.")
    assert client.get(f"{api.PREFIX}/error").json() == {"error": "It broke. Mend it."}


def test_settings_are_read_and_written(client, host):
    assert [row["name"] for row in client.get(f"{api.PREFIX}/settings").json()] == [option.name for option in OPTIONS]
    answer = client.post(f"{api.PREFIX}/settings", json={"name": "interval", "value": 5})
    assert answer.json()["value"] == 5
    assert host.opts.taesd_ext_interval == 5
    assert client.post(f"{api.PREFIX}/settings", json={"name": "nonsense", "value": 1}).status_code == 404
    assert host.opts.taesd_ext_interval == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("interval", '"x"'), ("interval", "true"), ("interval", "1" + 400 * "0"), ("family", "3"),
     ("family", r'"\udce9"'), ("final_vae", r'"\ud800"'), ("final_vae", '"no such vae"'), ("budget", "1e999"),
     ("budget", "NaN"), ("badge", r'"\ud800"')],
)  # fmt: skip
def test_settings_that_nothing_could_store_are_refused(client, host, name, value):
    before = client.get(f"{api.PREFIX}/settings").json()
    body = f'{{"name": "{name}", "value": {value}}}'
    answer = client.post(f"{api.PREFIX}/settings", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert client.get(f"{api.PREFIX}/settings").json() == before


@pytest.mark.parametrize("form", ["png", "safetensors"])
def test_there_and_back_is_the_codecs_own_output(client, extension, form):
    picture = base64_picture()
    latent = client.post(f"{api.PREFIX}/encode", json={"image": picture, "format": form}).json()
    assert (latent["family"], latent["width"], latent["height"]) == ("taesd", 40, 24)
    answer = client.post(f"{api.PREFIX}/decode", json={"latent": latent["latent"]}).json()

    codec = extension.registry.get("taesd", device="cpu")
    image = picture_to_image(picture_of(picture))
    wanted = image_to_picture(codec.decode(codec.encode(image), size=(24, 40)))
    got = picture_of(answer["image"])
    assert got.size == (40, 24)
    if form == "safetensors":
        assert got.tobytes() == wanted.tobytes()


def test_a_data_uri_is_a_picture_too(client):
    picture = "data:image/jpeg;base64," + base64_picture(kind="jpeg")
    assert client.post(f"{api.PREFIX}/encode", json={"image": picture}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("encode", {"image": "not base64!"}, 422),
        ("encode", {"image": base64.b64encode(b"no picture").decode()}, 422),
        ("encode", {"image": base64_picture(), "family": "/etc/passwd"}, 422),
        ("encode", {"image": base64_picture(), "family": "../models/taesd"}, 422),
        ("encode", {"image": base64_picture(), "family": "taef1"}, 400),
        ("encode", {"image": base64_picture(), "format": "../../x"}, 422),
        ("encode", {"image": base64_picture((5000, 5000))}, 413),
        ("decode", {"latent": base64_picture()}, 422),
        ("decode", {"latent": base64.b64encode(b"\x89PNG nonsense").decode()}, 422),
        ("decode", {"latent": ""}, 422),
        ("benchmark", {"side": 10**6}, 422),
        ("benchmark", {"family": "nobody"}, 422),
    ],
)
def test_what_is_wrong_is_refused_with_a_line(client, path, body, status):
    answer = client.post(f"{api.PREFIX}/{path}", json=body)

    assert answer.status_code == status
    assert answer.json()["detail"]
    # Only where files are missing must the answer say where they belong.
    assert status == 400 or "/tmp" not in answer.text


def test_the_timeline_of_a_job(client, host):
    host.polled()
    (job,) = client.get(f"{api.PREFIX}/timeline").json()
    assert len(job["frames"]) == 4

    frame = client.get(f"{api.PREFIX}/timeline/{job['id']}/frames/{job['frames'][-1]['number']}")
    assert frame.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(frame.content)).size == (16, 16)
    film = client.get(f"{api.PREFIX}/timeline/{job['id']}/animation", params={"kind": "gif", "side": 64})
    assert Image.open(io.BytesIO(film.content)).size == (16, 16), "small frames are not enlarged"
    for missing in (f"{job['id']}/frames/99", "99/frames/1", "99/animation"):
        assert client.get(f"{api.PREFIX}/timeline/{missing}").status_code == 404
    for wrong in ({"kind": "avi"}, {"length": "nan"}, {"side": 10**7}, {"hold": -1}):
        assert client.get(f"{api.PREFIX}/timeline/{job['id']}/animation", params=wrong).status_code == 400


def test_a_moment_is_decoded_in_full(client, host):
    host.generate()
    moments = client.get(f"{api.PREFIX}/timeline/1/moments").json()
    assert [moment["step"] for moment in moments] == [0, 4, 3, 2, 1]
    for moment in moments[:2]:
        answer = client.get(f"{api.PREFIX}/timeline/1/moments/{moment['step']}/picture?decoder=taesd")
        assert Image.open(io.BytesIO(answer.content)).size == (moment["width"], moment["height"])
    assert client.get(f"{api.PREFIX}/timeline/1/moments/9/picture").status_code == 404


def test_the_benchmark_measures_each_detail(client, extension):
    answer = client.post(f"{api.PREFIX}/benchmark", json={"side": 64, "runs": 1}).json()
    assert {row["detail"] for row in answer} == set(extension.registry.get("taesd", device="cpu").details)
    assert all(row["milliseconds"] > 0 for row in answer)


def test_no_memory_is_no_crash(client, extension, monkeypatch):
    def out_of_memory(*_args, **_kwargs):
        raise torch.cuda.OutOfMemoryError("no memory")

    monkeypatch.setattr(extension.registry.get("taesd", device="cpu"), "encode", out_of_memory)
    assert client.post(f"{api.PREFIX}/encode", json={"image": base64_picture()}).status_code == 503
