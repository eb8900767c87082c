"""The weights of diffusers' full-size VAEs under the keys of their first authors, renamed by hand."""

import re

import torch
from diffusers_vaes import CONSISTENCY, DC, KL, WAN
from torch import Tensor

State = dict[str, Tensor]

_BLOCK = r"((?:down|up)_blocks\.\d\.\d+)"
_RENAMED = {
    **dict.fromkeys(KL, (
        (r"up_blocks\.(\d)\.resnets", lambda match: f"up.{3 - int(match[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{3 - int(match[1])}.upsample"),
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"attn_1\.group_norm", "attn_1.norm"),
        (r"attn_1\.to_([qkv])", r"attn_1.\1"),
        (r"attn_1\.to_out\.0", "attn_1.proj_out"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out", "norm_out"),
    )),
    WAN: (
        (r"(up_blocks\.\d)\.upsamplers\.0", r"\1.resnets.3"),
        (r"up_blocks\.(\d)\.resnets\.(\d)", lambda match: f"upsamples.{4 * int(match[1]) + int(match[2])}"),
        (r"down_blocks", "downsamples"),
        (r"mid_block\.resnets\.([01])", lambda match: f"middle.{2 * int(match[1])}"),
        (r"mid_block\.attentions\.0", "middle.1"),
        (r"\.norm1\.", ".residual.0."),
        (r"\.conv1\.", ".residual.2."),
        (r"\.norm2\.", ".residual.3."),
        (r"\.conv2\.", ".residual.6."),
        (r"conv_shortcut", "shortcut"),
        (r"norm_out", "head.0"),
        (r"conv_out", "head.2"),
        (r"conv_in", "conv1"),
        (r"^post_quant_conv", "conv2"),
        (r"^quant_conv", "conv1"),
    ),
    CONSISTENCY: (
        (r"^decoder_unet\.", "blocks."),
        (r"blocks\.time_embedding\.linear_(\d)", r"blocks.embed_time.f_\1"),
        (r"down_blocks\.(\d)\.resnets\.(\d)", r"down_\1_conv_\2"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down_\1_downsamp"),
        (r"up_blocks\.(\d)\.resnets\.(\d)", lambda match: f"up_{3 - int(match[1])}_conv_{match[2]}"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up_{3 - int(match[1])}_upsamp"),
        (r"mid_block\.resnets\.(\d)", r"mid_\1"),
        (r"norm(\d)\.weight", r"gn_\1.g"),
        (r"norm(\d)\.bias", r"gn_\1.b"),
        (r"conv_norm_out\.weight", "output.gn.g"),
        (r"conv_norm_out\.bias", "output.gn.b"),
        (r"conv_in", "embed_image.f"),
        (r"conv_out", "output.f"),
        (r"conv(\d)", r"f_\1"),
        (r"time_emb_proj", "f_t"),
        (r"conv_shortcut", "f_s"),
        (r"weight$", "w"),
        (r"bias$", "b"),
        (r"blocks\.time_proj\.w", "embed_time.weight"),
    ),
    **dict.fromkeys(DC, (
        (r"attn\.to_q\.", "context_module.main.qkv.conv."),
        (r"attn\.to_out", "context_module.main.proj.conv"),
        (r"attn\.norm_out", "context_module.main.proj.norm"),
        (r"attn\.to_qkv_multiscale\.(\d)\.proj_in", r"context_module.main.aggreg.\1.0"),
        (r"attn\.to_qkv_multiscale\.(\d)\.proj_out", r"context_module.main.aggreg.\1.1"),
        (r"conv_out\.conv_(inverted|depth|point)", r"local_module.main.\1_conv.conv"),
        (rf"{_BLOCK}\.conv_out\.norm", r"\1.local_module.main.point_conv.norm"),
        (rf"{_BLOCK}\.conv(\d)", r"\1.main.conv\2.conv"),
        (rf"{_BLOCK}\.norm", r"\1.main.conv2.norm"),
        (rf"{_BLOCK}\.conv\.", r"\1.main.conv.conv."),
        (r"(?:down|up)_blocks\.(\d)\.(\d+)", r"stages.\1.op_list.\2"),
        (r"encoder\.conv_in", "encoder.project_in.conv"),
        (r"encoder\.conv_out", "encoder.project_out.main.op_list.0.conv"),
        (r"decoder\.conv_in", "decoder.project_in.main.conv"),
        (r"decoder\.norm_out", "decoder.project_out.op_list.0"),
        (r"decoder\.conv_out", "decoder.project_out.op_list.2.conv"),
    )),
}  # fmt: skip
"""Kind -> patterns in diffusers' keys and what takes their place, one after the other."""


def in_original_layout(name: str, state: State, prefix: str = "") -> State:
    """diffusers' weights of a VAE of this kind; of a Consistency Decoder the decoder's, as its file has them."""
    if name == CONSISTENCY:
        state = {key: value for key, value in state.items() if key.startswith("decoder_unet.")}
    if name == "flux2-vae":  # the convolutions next to the latent are parts of the halves
        halves = (("post_quant_conv", "decoder.post_quant_conv"), ("quant_conv", "encoder.quant_conv"))
        for own, nested in halves:
            state = {re.sub(f"^{own}", nested, key): value for key, value in state.items()}
    found = {}
    for key, value in state.items():
        if name in DC and re.search(r"to_[kv]\.", key):
            continue
        if name in DC and "to_q." in key:
            value = torch.cat([value, *(state[key.replace("to_q", other)] for other in ("to_k", "to_v"))])
        for pattern, instead in _RENAMED[name]:
            key = re.sub(pattern, instead, key)
        is_linear = value.ndim == 2 and name != CONSISTENCY
        found[prefix + key] = value[:, :, None, None] if is_linear else value
    return found
