"""REST routes under /taesd/v1, where the host's own API is on, with the same log-in; and the badge's own status."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import create_model

from taesd_ext.codec.latent_file import LATENT_SUFFIXES, latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import picture_bytes
from taesd_ext.commands.quick_bench import quick_bench
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.host import api_models as models
from taesd_ext.host.api_moments import Moments
from taesd_ext.host.api_payload import MOST_PIXELS, bytes_of, image_of, latent_of, text_of
from taesd_ext.host.runtime import Runtime
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS, native_format
from taesd_ext.preview.animation import AnimationPlan, animate
from taesd_ext.preview.recorded import RecordedJob
from taesd_ext.settings import OPTION, OPTIONS
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.markup import cost_words
from taesd_ext.ui.work import LEFT, leave
from taesd_ext.weights.folders import search_folders
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import list_weights

PREFIX = "/taesd/v1"

BADGE = "/internal/taesd"
"""Beside the host's own /internal/progress, and as open as that: it says nothing but numbers of the running job and
the model's kind."""

_HOSTS_OPTIONS = "/sdapi/v1/options"

_MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}


def add_routes(app: Any, runtime: Runtime, actions: PanelActions) -> None:
    """Add the routes to the host's FastAPI app; beyond what our pages ask for, only where the host's API is on."""
    app.add_api_route(BADGE, lambda: status(runtime), methods=["GET"], response_model=models.Status)
    app.add_api_route(LEFT, leave, methods=["POST"])
    argument = runtime.host.command_line
    if not (argument("api") or argument("nowebui")):
        return
    guard = [Depends(_log_in(credentials))] if (credentials := argument("api_auth")) else []
    router = APIRouter(prefix=PREFIX, dependencies=guard, tags=["TAESD"])
    for path, method, route, model in (*_Routes(runtime).table(), *Moments(actions).table()):
        name = f"taesd_{route.__name__}"
        router.add_api_route(path, _answering(route), methods=[method], response_model=model, name=name)
    app.include_router(router)
    _describe_options(app)
    app.openapi_schema = None  # made before we came


def _describe_options(app: Any) -> None:
    """Have our options in the host's answer to GET /sdapi/v1/options.

    Forge and its kin describe that answer before extensions add their options, and leave out what is not described.
    """
    routes = app.router.routes
    for place, route in enumerate(routes):
        if getattr(route, "path", "") == _HOSTS_OPTIONS and "GET" in route.methods and route.response_model:
            ours = {option.key: (Any, option.default) for option in OPTIONS}
            described = create_model("Options", __base__=route.response_model, **ours)
            app.add_api_route(
                route.path, route.endpoint, methods=["GET"], response_model=described, dependencies=route.dependencies
            )
            routes[place] = routes.pop()
            return


def _log_in(credentials: str) -> Callable[..., None]:
    """The check that the host's API makes: one of its "user:password,user:password"."""
    known = dict(pair.split(":", 1) for pair in credentials.split(",") if ":" in pair)

    def check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - how FastAPI injects
        password = known.get(given.username)
        if password is None or not secrets.compare_digest(given.password.encode(), password.encode()):
            headers = {"WWW-Authenticate": "Basic"}
            # By keyword, as the host does it: its answer shows what was given by position.
            raise HTTPException(status_code=401, detail="Incorrect username or password", headers=headers)

    return check


def status(runtime: Runtime) -> models.Status:
    """The running or last job's previews."""
    session = runtime.session
    stats, frame, step, steps = session.stats, session.frame, *session.progress
    loaded = runtime.detection().format if runtime.host.model() is not None else None
    return models.Status(
        active=runtime.active,
        enabled=runtime.draws_previews() and runtime.preview_settings().enabled,
        step=step,
        steps=steps,
        frames=stats.frames,
        frame=frame.number if frame else 0,
        detail=stats.detail,
        over_budget=frame is not None and frame.over_budget,
        family=frame.family if frame else None,
        milliseconds=round(stats.milliseconds, 2),
        share=round(stats.share, 5),
        cost=cost_words(stats),
        model=loaded.name if loaded else None,
    )


def _answering(route: Callable[..., Any]) -> Callable[..., Any]:
    """What we refuse is the asker's mistake (400) with its cure; a full memory is 503. Nothing becomes a 500."""

    @wraps(route)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return route(*args, **kwargs)
        except HTTPException:
            raise
        except TaesdError as error:
            raise HTTPException(400, str(error)) from error
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:
            raise HTTPException(503, one_line(error)) from error

    return answer


class _Routes:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._host = runtime.host

    def table(self) -> tuple:
        return (
            ("/status", "GET", self.status, models.Status),
            ("/families", "GET", self.families, list[models.Family]),
            ("/files", "GET", self.files, list[models.File]),
            ("/error", "GET", self.error, models.LastError),
            ("/settings", "GET", self.settings, list[models.Setting]),
            ("/settings", "POST", self.change, models.Setting),
            ("/encode", "POST", self.encode, models.Latent),
            ("/decode", "POST", self.decode, models.Picture),
            ("/timeline", "GET", self.timeline, list[models.Job]),
            ("/timeline/{job}/frames/{number}", "GET", self.frame, None),
            ("/timeline/{job}/animation", "GET", self.animation, None),
            ("/benchmark", "POST", self.benchmark, list[models.Measured]),
        )

    def status(self) -> models.Status:
        """The previews of the running or last job: step, detail, what they cost."""
        return status(self._runtime)

    def families(self) -> list[models.Family]:
        """Every family of tiny autoencoders, and which files serve it."""
        found = installed(search_folders(self._host.weights_folders()))
        detection = self._runtime.detection()
        return [
            models.Family(
                name=family,
                titles=[row.title for row in LATENT_FORMATS if row.family == family],
                latent_channels=native_format(family).latent_channels,
                spatial_scale_factor=native_format(family).spatial_scale_factor,
                in_use=detection.family == family,
                reason=detection.reason if detection.family == family else "",
                **{part: path.name for part, path in found.get(family, {}).items()},
            )
            for family in FAMILIES
        ]

    def files(self) -> list[models.File]:
        """The weight files in the folders that are searched."""
        return [
            models.File(
                name=found.path.name,
                families=list(found.families),
                parts=list(found.official.parts if found.official else found.parts),
                state=found.state,
                version=found.official.version if found.official else None,
                licence=found.official.licence if found.official else None,
                size=found.size,
                error=found.error.replace(str(found.path), found.path.name),
            )
            for found in list_weights(search_folders(self._host.weights_folders()))
        ]

    def error(self) -> models.LastError:
        """What went wrong last with a preview."""
        return models.LastError(error=self._runtime.session.last_error)

    def settings(self) -> list[models.Setting]:
        """Every option with its value now."""
        return [self._setting(option.name) for option in OPTIONS]

    def change(self, change: models.Change) -> models.Setting:
        """Set one option; it takes effect at once and is saved."""
        if change.name not in OPTION:
            raise HTTPException(404, f"There is no option {change.name!r}")
        if not self._host.allows_changes():
            raise HTTPException(403, "This WebUI is open to others, and was not told to let them change it")
        try:
            self._runtime.options.set(change.name, change.value)
        except ValueError as error:
            raise HTTPException(422, f"{change.name}: {error}") from error
        return self._setting(change.name)

    def _setting(self, name: str) -> models.Setting:
        option = OPTION[name]
        return models.Setting(
            name=name, key=option.key, value=self._runtime.options.value(name), default=option.default,
            choices=self._runtime.options.choices(name), label=option.label, help=option.help,
        )  # fmt: skip

    def encode(self, request: models.EncodeRequest) -> models.Latent:
        """A picture to a latent."""
        suffix = f".{request.format}"
        if suffix not in LATENT_SUFFIXES:
            raise HTTPException(422, f"format is one of {', '.join(known[1:] for known in LATENT_SUFFIXES)}")
        image = image_of(bytes_of(request.image))
        with self._host.exclusive():
            codec = self._codec(request.family)
            latent = codec.encode(image)
        height, width = image.shape[-2:]
        data = latent_bytes(suffix, latent.cpu(), note_for(latent, codec.family, codec.format, (height, width)))
        return models.Latent(latent=text_of(data), family=codec.family, width=width, height=height)

    def decode(self, request: models.DecodeRequest) -> models.Picture:
        """A latent to a picture."""
        latent, note = latent_of(bytes_of(request.latent), request.family)
        if note.width * note.height > MOST_PIXELS:
            raise HTTPException(413, f"{note.width}x{note.height} is more than {MOST_PIXELS:,} pixels")
        with self._host.exclusive():
            codec = self._codec(request.family or note.family)
            image = codec.decode(latent, size=note.size)
        data = picture_bytes(".png", image)
        return models.Picture(image=text_of(data), family=codec.family, width=note.width, height=note.height)

    def timeline(self) -> list[models.Job]:
        """The last jobs whose previews are kept, newest first."""
        return [
            models.Job(
                id=job.id, title=job.title, steps=job.steps, started=job.started, size=job.size,
                frames=[
                    models.Frame(
                        number=frame.number, step=frame.step, detail=frame.detail, milliseconds=frame.milliseconds,
                        width=frame.full_size[0], height=frame.full_size[1],
                    )
                    for frame in job.frames
                ],
            )
            for job in self._runtime.history.jobs.jobs()
        ]  # fmt: skip

    def frame(self, job: int, number: int) -> Response:
        """One preview, as it was shown."""
        for frame in self._job(job).frames:
            if frame.number == number:
                return Response(frame.data, media_type=_MIME[frame.wire_format])
        raise HTTPException(404, f"Preview {number} of job {job} is not kept")

    def animation(
        self,
        job: int,
        kind: str = Query("webp", max_length=8, description="webp or gif"),
        length: float = Query(4.0, description="seconds"),
        hold: float = Query(1.5, description="seconds for which the last frame stays"),
        side: int = Query(512, description="longest side in pixels"),
    ) -> Response:
        """A job's previews as a film."""
        plan = AnimationPlan(kind, length, hold, side)
        return Response(animate(self._job(job).frames, plan), media_type=_MIME[kind])

    def benchmark(self, request: models.BenchmarkRequest) -> list[models.Measured]:
        """Time of a preview at each detail, while no generation runs."""
        with self._host.exclusive():
            rows = list(quick_bench(self._codec(request.family), (request.side,), request.runs))
        return [
            models.Measured(
                detail=row.detail, milliseconds=round(row.milliseconds, 2), width=row.width, height=row.height
            )
            for row in rows
        ]

    def _codec(self, family: str) -> Any:
        """By a family's name only: a path from outside never reaches the disk."""
        if family not in FAMILIES:
            raise HTTPException(422, f"family is one of {', '.join(FAMILIES)}")
        return self._runtime.registry.get(family, device=self._host.device())

    def _job(self, job: int) -> RecordedJob:
        if found := self._runtime.history.jobs.job(job):
            return found
        raise HTTPException(404, f"Job {job} is not kept")
