"""What the REST routes take and give, and what their base64 texts hold. Plain enough for pydantic 1 and 2."""

import base64
import binascii
import io
import tempfile
from pathlib import Path

import torch
from fastapi import HTTPException
from PIL import Image
from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.latent_note import LatentNote
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES

LARGEST_UPLOAD = 64 * 2**20
"""Characters of base64."""

MOST_PIXELS = 4096 * 4096
"""Of a picture that is taken or made; more is refused (413)."""

Value = StrictBool | StrictInt | StrictFloat | StrictStr
"""Strict, since pydantic 1 would make true of 1."""


class Status(BaseModel):
    """The previews of the running or last job."""

    active: bool = Field(description="a job is running")
    enabled: bool = Field(description="previews are TAESD's, and not switched off")
    step: int
    steps: int
    frames: int = Field(description="previews of this job so far")
    frame: int = Field(description="number of the newest preview")
    shown_step: int = Field(0, description="the step that it shows")
    job: int = Field(0, description="the job's number in the timeline")
    detail: str | None = Field(None, description="full, 1/2, 1/4, 1/8, embedded or linear")
    over_budget: bool = Field(False, description="the budget does not allow the detail that was chosen")
    family: str | None = None
    milliseconds: float = Field(description="mean time of a preview")
    share: float = Field(description="part of the job's time that previews took, 0 to 1")
    cost: str = Field("", description="the same, in words")
    model: str | None = Field(None, description="the kind of the loaded model's latents, sd1 for instance")


class Family(BaseModel):
    name: str
    titles: list[str] = Field(description="the models whose latents it reads")
    latent_channels: int
    spatial_scale_factor: int
    encoder: str | None = Field(None, description="name of the file that serves it")
    decoder: str | None = None
    in_use: bool = Field(description="the loaded checkpoint uses it")
    reason: str = ""


class File(BaseModel):
    name: str
    families: list[str]
    parts: list[str]
    state: str = Field(description="official, unverified or unreadable")
    version: str | None = None
    licence: str | None = None
    size: int
    error: str = ""


class LastError(BaseModel):
    error: str | None = Field(None, description="what happened, why, and what to do, in one line")


class Setting(BaseModel):
    name: str
    key: str = Field(description="the option's name in the WebUI's own settings")
    value: Value
    default: Value
    choices: list[str]
    label: str
    help: str


class Change(BaseModel):
    name: str = Field(max_length=64)
    value: Value


class EncodeRequest(BaseModel):
    image: str = Field(max_length=LARGEST_UPLOAD, description="a picture file, base64")
    family: str = Field("taesd", max_length=64)
    format: str = Field("png", max_length=16, description="png (8 bits) or safetensors (exact)")


class Latent(BaseModel):
    latent: str = Field(description="the latent's file, base64")
    family: str
    width: int
    height: int


class DecodeRequest(BaseModel):
    latent: str = Field(max_length=LARGEST_UPLOAD, description="a latent's file, PNG or safetensors, base64")
    family: str | None = Field(None, max_length=64, description="another decoder than the file names")


class Picture(BaseModel):
    image: str = Field(description="a PNG file, base64")
    family: str
    width: int
    height: int


class Frame(BaseModel):
    number: int
    step: int
    detail: str
    milliseconds: float
    width: int
    height: int


class Job(BaseModel):
    id: int
    title: str
    steps: int
    started: float = Field(description="seconds since 1970")
    size: int = Field(description="bytes")
    inner: bool = Field(False, description="another job started it, to work on its picture")
    frames: list[Frame]


class Moment(BaseModel):
    step: int = Field(description="counted from 1 over all passes and batches; 0 = finished")
    picture: int = Field(description="counted from 1 within the job")
    width: int
    height: int
    decoders: list[str] = Field(description="what can decode it, the WebUI's own first")


class Saved(BaseModel):
    file: str = Field(description="its name, in the WebUI's folder for such pictures")


class BenchmarkRequest(BaseModel):
    family: str = Field("taesd", max_length=64)
    side: int = Field(512, ge=64, le=2048, description="side of the picture in pixels")
    runs: int = Field(3, ge=1, le=20)


class Measured(BaseModel):
    detail: str
    milliseconds: float = Field(description="median of the runs")
    width: int
    height: int


def bytes_of(text: str) -> bytes:
    """Base64, with or without "data:image/png;base64," before it; HTTPException 422 for anything else."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"not base64: {error}") from error


def text_of(data: bytes) -> str:
    """Plain base64."""
    return base64.b64encode(data).decode("ascii")


def image_of(data: bytes) -> torch.Tensor:
    """A picture file -> (1,3,H,W) in [0,1]; HTTPException 413 where it is too large, 422 where it is none."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise HTTPException(413, f"{picture.width}x{picture.height} is more than {MOST_PIXELS:,} pixels")
            return picture_to_image(picture)
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(422, f"not a readable picture: {one_line(error)}") from error


def latent_of(data: bytes, family: str | None) -> tuple[torch.Tensor, LatentNote]:
    """A latent's .png or .safetensors file -> (1,C,h,w) and its note; HTTPException 422 where it is none."""
    suffix = ".png" if data[:4] == b"\x89PNG" else ".safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"latent{suffix}"
        path.write_bytes(data)
        try:
            return read_latent(path, family if family in FAMILIES else None)
        except TaesdError as error:
            raise HTTPException(422, str(error).replace(str(path), "The latent")) from error
