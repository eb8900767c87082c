"""Small checkpoints of the model kinds that Forge Neo loads: random weights for networks of the host's own classes.

A kind is told by a few tensors' names and shapes. What these leave open, text encoders and VAEs above all, is smaller
than the host believes it: it is told so when it makes a file and when it loads one.
"""

import contextlib
from functools import partial
from pathlib import Path

import torch
from modules import images, script_callbacks

try:
    import huggingface_guess
    from backend import loader
    from backend.nn.llm import llama
    from backend.nn.vae import AutoencoderKLFlux2, IntegratedAutoencoderKL
    from backend.nn.wan_vae import WanVAE
except ImportError:  # another host
    loader = None

UNET, TEXT, ADAPTER = "model.diffusion_model.", "text_encoders.", "llm_adapter"
VOCABULARY = 8

KINDS = {
    "flux": {
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,), "single_blocks.0.norm.key_norm.scale": (128,),
        "img_in.weight": (128, 64), "txt_in.weight": (128, 64),
        "vector_in.in_layer.weight": (128, 768), "guidance_in.in_layer.weight": (128, 256),
        f"{TEXT}clip_l.transformer.text_model.final_layer_norm.weight": (768,),
        f"{TEXT}t5xxl.transformer.encoder.final_layer_norm.weight": (64,),
    },
    "flux2": {
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,), "single_blocks.0.norm.key_norm.scale": (128,),
        "double_stream_modulation_img.lin.weight": (768, 128),
        "img_in.weight": (128, 128), "txt_in.weight": (128, 3 * 2560),
    },
    "lumina2": {"cap_embedder.1.weight": (2304, 2304), "layers.0.ffn_norm1.weight": (2304,)},
    "z_image": {"cap_embedder.1.weight": (3840, 2560), "layers.0.ffn_norm1.weight": (3840,)},
    "qwen_image": {
        "txt_norm.weight": (3584,), "img_in.weight": (512, 64),
        **{f"transformer_blocks.{number}.img_mod.1.bias": (3072,) for number in range(8)},
    },
    "anima": {
        "x_embedder.proj.1.weight": (2048, 68), "blocks.0.mlp.layer1.weight": (8192, 2048),
        f"{ADAPTER}.blocks.0.cross_attn.q_proj.weight": (1024, 1024),
    },
    "wan": {
        "head.modulation": (1, 2, 512), "head.head.weight": (64, 512), "patch_embedding.weight": (512, 16, 1, 2, 2),
        **{f"blocks.{number}.ffn.0.weight": (2048, 512) for number in range(4)},
    },
}  # fmt: skip
"""The tensors that tell a kind."""

LEFT_OPEN = {
    "anima": {"num_blocks": 1},
    "lumina2": {"n_refiner_layers": 0, "ffn_dim_multiplier": 0.1},
    "qwen_image": {"num_attention_heads": 4},
    "wan2.1": {"text_dim": 64},
}
"""Of the host's configurations, by its name of the network."""

ENCODERS = {"Qwen3_06BConfig": 2, "Qwen3_4BConfig": 27, "Qwen25_7BVLI_Config": 2, "Gemma2_2B_Config": 2}
"""Layers of the text encoders; FLUX.2 reads the hidden state after 27."""


def make_smaller():
    detection = huggingface_guess.detection
    detect, read_config, load = (
        detection.detect_unet_config, loader.read_arbitrary_config, loader.load_huggingface_component
    )  # fmt: skip

    def network(state_dict, prefix):
        config = detect(state_dict, prefix)
        return config and {**config, **LEFT_OPEN.get(config.get("image_model"), {})}

    def text_encoder(directory):
        config = read_config(directory)
        if "d_ff" in config:
            return {**config, "num_layers": 2, "d_ff": 64, "d_model": 64, "num_heads": 1, "vocab_size": VOCABULARY}
        return {"hidden_size": config["hidden_size"]}

    def component(*args):
        made = load(*args)
        for module in made.modules() if isinstance(made, torch.nn.Module) else ():
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings == VOCABULARY:
                module.register_forward_pre_hook(lambda _, given: (given[0] % VOCABULARY, *given[1:]))
        return made

    detection.detect_unet_config = network
    loader.read_arbitrary_config = text_encoder
    loader.load_huggingface_component = component
    huggingface_guess.model_list.Flux2K4B.unet_config["hidden_size"] = 128
    for name, layers in ENCODERS.items():
        small = {"vocab_size": VOCABULARY, "intermediate_size": 64, "num_attention_heads": 1, "num_key_value_heads": 1}
        setattr(llama, name, partial(getattr(llama, name), **small, num_hidden_layers=layers))
    llama.LLMAdapter = partial(llama.LLMAdapter, num_layers=1)
    llama.qwen_vl.Qwen2VLVisionTransformer = lambda **config: torch.nn.Identity()  # it is for edits only
    for vae in (IntegratedAutoencoderKL, AutoencoderKLFlux2, WanVAE):
        vae.load_config = partial(small_vae, vae.load_config)
    images.save_video = lambda p, frames, *args, **kwargs: None  # it asks for ffmpeg


def small_vae(load_config, path, **options):
    config = load_config(path, **options)
    if config.get("latent_channels", 16) == 4:  # of checkpoints that are of the true size
        return config
    small = {"base_dim": 8} if "base_dim" in config else {"block_out_channels": [32] * 4}
    return {**config, **small}


def random_weights(module, generator):
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            yield name, value
        elif value.ndim < 2 or name.endswith("gamma"):
            zero = name.endswith(("bias", "running_mean"))
            yield name, (torch.zeros if zero else torch.ones)(value.shape, dtype=torch.float16)
        else:
            scale = (value.shape[0] / value.numel()) ** 0.5
            yield name, (torch.randn(value.shape, generator=generator) * scale).half()


@contextlib.contextmanager
def weights_at_once(forge, linear, **options):
    """The host's own linear layers have no weights before it loads any."""
    with forge(**options):
        torch.nn.Linear = linear
        yield


def make(wanted: dict):
    """Writes the checkpoint of a ``kind`` into a ``folder``."""
    from diffusers import DiffusionPipeline
    from safetensors.torch import save_file

    telling = {
        name if name.startswith(TEXT) else UNET + name: torch.zeros(shape, dtype=torch.float16)
        for name, shape in KINDS[wanted["kind"]].items()
    }
    stub = {f"{UNET}stub.{number}": torch.zeros(1, dtype=torch.float16) for number in range(17)}
    guess = huggingface_guess.guess({**telling, **stub})
    encoders = {part: name for name, part in guess.clip_target(telling).items()}
    prefixes = {"transformer": UNET, "unet": UNET, "vae": guess.vae_key_prefix[0]}
    prefixes |= {part: f"{guess.text_encoder_key_prefix[0]}{name}." for part, name in encoders.items()}
    path = str(Path(loader.HF, guess.huggingface_repo))
    generator, contents, operations = torch.Generator().manual_seed(0), {}, loader.using_forge_operations
    loader.using_forge_operations = partial(weights_at_once, operations, torch.nn.Linear)
    with torch.inference_mode():
        for part, names in DiffusionPipeline.load_config(path).items():
            if part in prefixes:
                module = loader.load_huggingface_component(guess, part, *names, path, stub)
                for name, value in random_weights(module, generator):
                    contents[(UNET if name.startswith(ADAPTER) else prefixes[part]) + name] = value
    loader.using_forge_operations = operations
    for name in telling.keys() - contents.keys():
        contents[name] = contents.pop(name.replace(".scale", ".weight"))  # the host calls it otherwise
    contents = {name: value.clone() for name, value in contents.items()}  # some are tied
    save_file(contents, Path(wanted["folder"], wanted["kind"]).with_suffix(".safetensors"))
    return sum(value.numel() for value in contents.values())


if loader and not hasattr(loader, "e2e_small"):
    loader.e2e_small = True
    make_smaller()

script_callbacks.on_app_started(lambda demo, app: app.add_api_route("/small/make", make, methods=["POST"]) or None)
