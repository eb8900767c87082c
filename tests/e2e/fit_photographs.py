"""Fit a tiny checkpoint's network to photographs, so that a WebUI's samplers predict what they do of a trained model.

    PYTHONPATH=.:tests WEBUI_DIR=/path/to/a1111 /path/to/its/python tests/e2e/fit_photographs.py taesd PICTURES FOLDER

PICTURES is a folder of photographs, best a few hundred; FOLDER gets the checkpoint. Where TAESD_TEST_CHECKPOINTS names
FOLDER, the tests run with its checkpoints; test_webui_trajectories.py is what they are for. The network learns as
denoising diffusion does (Ho et al. 2020: the mean squared error of the noise; steps as in latent diffusion, Rombach et
al. 2022), told by the prompt how bright and how warm the picture is, and one time in seven not told.
"""

import argparse
import copy
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from webui_hosts import host_of, put_checkpoints
from webui_server import OPTIONS, WebUIServer

from taesd_ext import load_codec
from taesd_ext.codec.precision import auto_dtype

SHARED = Path(__file__).resolve().parents[3] / "shared"
PROMPTS = ("a dark cold photograph", "a dark warm photograph", "a bright cold photograph", "a bright warm photograph")
NETWORK = "model.diffusion_model."
Lessons = tuple[Tensor, Tensor]
"""Latents, and the number of each one's prompt."""

SIDE, COUNT, HELD_BACK, BATCH, RATE = 256, 1500, 64, 16, 6e-4


def pictures_of(folder: Path) -> Iterator[Image.Image]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            picture = Image.open(path).convert("RGB")
            scale = min(1, 900 / min(picture.size))
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
            if min(picture.size) >= SIDE:
                yield picture


def latents_of(family: str, folder: Path, shared: Path) -> tuple[Tensor, Tensor]:
    """Latents (COUNT,C,32,32) of crops, and which prompt says how bright and how warm each one is."""
    codec, chance = load_codec(family, models_dir=shared / "weights"), random.Random(0)
    pictures = list(pictures_of(folder))
    latents, light, warmth = [], [], []
    for number in range(COUNT):
        picture = pictures[number % len(pictures)]
        side = chance.randint(SIDE, min(picture.size))
        left, top = chance.randint(0, picture.width - side), chance.randint(0, picture.height - side)
        crop = picture.resize((SIDE, SIDE), Image.LANCZOS, (left, top, left + side, top + side))
        image = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] / 255
        latents.append(codec.encode(image))
        red, _, blue = image.mean((0, 2, 3)).tolist()
        light.append(image.mean().item())
        warmth.append(red - blue)
    bright, warm = (torch.tensor(values) > float(np.median(values)) for values in (light, warmth))
    return torch.cat(latents), 2 * bright + warm


def conditions_of(server: WebUIServer, family: str) -> list[tuple[Tensor, Tensor | None]]:
    """What the WebUI tells the network of each prompt, and of none: (context, vector or None)."""
    server.set_options(**OPTIONS)
    server.choose_checkpoint(family)
    folder, told = server.data / "trajectory", []
    folder.mkdir()
    for prompt in PROMPTS:
        assert server.generate(poll=None, prompt=prompt, steps=1, width=64, height=64).error is None
        told.append(torch.load(folder / "conditions.pt"))
    return [positive for positive, _ in told] + [told[-1][1]]


def new_network(family: str, config: dict) -> torch.nn.Module:
    """A small network that learns fast: attention only where the picture is smallest. Changes ``config`` to match."""
    sys.path.insert(0, str(Path(os.environ["WEBUI_DIR"]) / "repositories" / "stable-diffusion-stability-ai"))
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    config.update(model_channels=64, channel_mult=[1, 2, 4], attention_resolutions=[4])
    config.update(num_res_blocks=1, use_checkpoint=False)
    if family == "taesd":
        return UNetModel(**config)
    config.update(num_head_channels=64, transformer_depth=[1] * 3)
    known = {name: value for name, value in config.items() if name != "spatial_transformer_attn_type"}
    return UNetModel(**{**known, "transformer_depth": 1, "image_size": SIDE // 8})


def fit(network: torch.nn.Module, lessons: Lessons, exam: Lessons, conditions: list, minutes: float) -> torch.nn.Module:
    """The mean of the weights over the last steps (Ho et al. 2020, appendix B)."""
    latents, kinds = lessons
    context = torch.cat([context for context, _ in conditions])
    vector = None if conditions[0][1] is None else torch.cat([vector for _, vector in conditions])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0).float().view(-1, 1, 1, 1)
    mean = copy.deepcopy(network).eval()
    untold = len(conditions) - 1
    optimizer = torch.optim.AdamW(network.parameters(), RATE, betas=(0.9, 0.99), weight_decay=1e-4)

    def loss_of(network: torch.nn.Module, clean: Tensor, kinds: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        noisy = kept[steps].sqrt() * clean + (1 - kept[steps]).sqrt() * noise
        more = {} if vector is None else {"y": vector[kinds]}
        with torch.autocast("cpu", torch.bfloat16, enabled=auto_dtype("cpu") == torch.bfloat16):
            predicted = network(noisy, timesteps=steps, context=context[kinds], **more)
        return functional.mse_loss(predicted.float(), noise)

    def chances(count: int) -> tuple[Tensor, Tensor]:
        return torch.randint(0, len(kept), (count,)), torch.randn(count, *latents.shape[1:])

    held_back = (*exam, *chances(len(exam[0])))
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / 60 / minutes) < 1:
        chosen = torch.randint(0, len(latents), (BATCH,))
        told = torch.where(torch.rand(BATCH) < 1 / 7, untold, kinds[chosen])
        optimizer.param_groups[0]["lr"] = RATE * min(1, step / 200) * (0.5 + 0.5 * math.cos(math.pi * share))
        loss = loss_of(network, latents[chosen], told, *chances(BATCH))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for slow, fast in zip(mean.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, max(0.001, 9 / (9 + step)))
            if step % 50 == 0:
                print(f"{step} steps, {share:.0%}: held back {loss_of(mean, *held_back):.4f}", flush=True)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=("taesd", "taesdxl"))
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--shared", type=Path, default=SHARED)
    wanted = parser.parse_args()
    torch.manual_seed(0)
    os.environ.setdefault("WEBUI_PYTHON", sys.executable)
    host = host_of(Path(os.environ["WEBUI_DIR"]))
    latents, kinds = latents_of(wanted.family, wanted.pictures, wanted.shared)
    shown = slice(None, -HELD_BACK)
    lessons = (torch.cat([latents[shown], latents[shown].flip(-1)]), kinds[shown].repeat(2))
    exam = (latents[-HELD_BACK:], kinds[-HELD_BACK:])
    with tempfile.TemporaryDirectory() as work:
        checkpoints = put_checkpoints(host, wanted.shared, Path(work, "checkpoints"))
        with WebUIServer(Path(work, "data"), checkpoints, wanted.shared / "webui" / "hf") as server:
            conditions = conditions_of(server, wanted.family)
        name = host.checkpoints[wanted.family]
        contents = load_file(checkpoints / f"{name}.safetensors")
        config = yaml.safe_load((checkpoints / f"{name}.yaml").read_text())
    params = config["model"]["params"]
    unet = params.get("unet_config", params.get("network_config"))
    network = new_network(wanted.family, unet["params"])
    fitted = fit(network, lessons, exam, conditions, wanted.minutes).state_dict()
    rest = {key: value for key, value in contents.items() if not key.startswith(NETWORK)}
    wanted.folder.mkdir(parents=True, exist_ok=True)
    network = {NETWORK + key: value.half() for key, value in fitted.items()}
    save_file(rest | network, wanted.folder / f"{name}.safetensors")
    (wanted.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


if __name__ == "__main__":
    main()
