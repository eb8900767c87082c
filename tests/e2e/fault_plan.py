"""Which faults come in which order, into which generations: the same seed gives the same plan."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from webui_faults import CHECKPOINTS, FAULTS, RELOADS, Fault, another_checkpoint

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM")
STEPS = 5
SMALL = {"width": 64, "height": 64, "steps": STEPS}


@dataclass(frozen=True)
class Generation:
    """One entry of the plan."""

    name: str
    fault: Fault
    checkpoint: str
    request: dict[str, Any]
    at: int

    @property
    def key(self) -> str:
        """Equal where the picture must be equal."""
        stop = (self.fault.stop.replace("reload", "interrupt"), self.at) if self.fault.stop else None
        return json.dumps([self.checkpoint, self.fault.vae, self.request, stop], sort_keys=True)


def plan(count: int, seed: int) -> list[Generation]:
    """Runs of one checkpoint, as changing it costs more time than a generation."""
    chance, made, names = random.Random(seed), [], []
    checkpoint = CHECKPOINTS[0]
    for number in range(count):
        if number % 100 == 20:
            name = chance.choice(list(RELOADS))
        else:
            if not names:
                names = chance.sample(list(FAULTS), len(FAULTS))
            name = names.pop()
        fault = (FAULTS | RELOADS)[name]
        if number % 12 == 11:
            checkpoint = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
        if "VAE" in name:
            checkpoint = CHECKPOINTS[0]
        # Few different pictures are asked for where a stop or more multiplies them.
        sampler, picture = (SAMPLERS[1], 1) if fault.stop else (chance.choice(SAMPLERS), chance.randint(1, 3))
        request = {**SMALL, "sampler_name": sampler, "seed": 10 * seed + picture, **fault.request}
        if "refiner_switch_at" in request:
            request["refiner_checkpoint"] = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
        at = chance.randrange(STEPS - 1)  # the host counts from 0 and is one behind
        made.append(Generation(name, fault, checkpoint, request, at))
        if fault.beside is another_checkpoint:
            checkpoint = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
    return made
