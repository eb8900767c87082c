"""The stages that a DC-AE is built of, and how the shapes in its state dict tell them."""

from dataclasses import dataclass
from itertools import groupby

from taesd_ext.models.state_shapes import Arguments, Shapes

HEAD_CHANNELS = 32
"""Of attention, where the shapes do not tell."""


@dataclass(frozen=True)
class Stage:
    """The blocks at one size.

    ``scales`` are the kernels with which attention looks around before it compares. With ``batch_norm`` the blocks are
    activated by ReLU, else by SiLU: no published network has it otherwise.
    """

    width: int
    blocks: int
    attention: bool = False
    scales: tuple[int, ...] = ()
    batch_norm: bool = False

    @property
    def activation(self) -> str:
        return "relu" if self.batch_norm else "silu"


def arguments_of(shapes: Shapes, *, encodes: bool) -> Arguments | None:
    """Those of an Encoder or a Decoder of models/autoencoder_dc.py; None where the shapes are of no such network."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        index, _, rest = key.partition(".")
        layers.setdefault(int(index) if index.isdecimal() else -1, {})[rest] = shape
    convs, stages, head_channels = [], [], HEAD_CHANNELS
    in_order = [layers[index] for index in sorted(layers) if len(layers[index].get("weight", ())) != 1]
    for is_conv, group in groupby(in_order, lambda layer: "weight" in layer):
        found = list(group)
        if is_conv:
            convs += [layer["weight"] for layer in found]
        elif stage := _stage(found):
            stages.append(stage)
            head_channels = found[0].get("attention.scales.0.1.weight", (0, head_channels))[1]
    if len(convs) != len(stages) + 1 or not stages or any(len(shape) != 4 for shape in convs):
        return None
    skips = convs[0][0] != stages[0].width if encodes else convs[-1][0] != 3
    plain = not skips and len(stages) > 1 and convs[1][0] == stages[1].width
    stages = stages if encodes else stages[::-1]
    if skips:
        stages.insert(0, Stage(stages[0].width, 0))
    latent_channels = convs[-1][0] if encodes else convs[0][1]
    return {
        "latent_channels": latent_channels, "stages": tuple(stages), "plain": plain, "head_channels": head_channels
    }  # fmt: skip


def _stage(layers: list[dict[str, tuple[int, ...]]]) -> Stage | None:
    """The stage with these blocks, by the first of them."""
    first = layers[0]
    attention = "attention.out.weight" in first
    conv = first.get("attention.out.weight" if attention else "conv1.weight", ())
    scales = [first.get(f"attention.scales.{i}.0.weight", ()) for i in range(len(first))]
    batch_norm = f"{'attention.' if attention else ''}norm.running_mean" in first
    return Stage(conv[0], len(layers), attention, tuple(s[-1] for s in scales if s), batch_norm) if conv else None
