"""Every device's words for "out of memory" are known, and a picture is then made in smaller and smaller tiles."""

import pytest
import torch

from taesd_ext.codec import memory
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.memory import TILE_SIDES, in_less_memory, is_out_of_memory
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format
from taesd_ext.models import tiny

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("Tried to allocate 2.00 GiB"),
    MemoryError("Unable to allocate 1.2 GiB for an array"),
    OSError(22, "The paging file is too small for this operation to complete"),
    *map(
        RuntimeError,
        (
            "CUDA driver error: out of memory",
            "HIP out of memory. Tried to allocate 256.00 MiB. GPU 0 has a total capacity of 15.98 GiB",
            "hipErrorOutOfMemory",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "Invalid buffer size: 16.00 GB",
            "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1 B.",
            "[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ...",
            "Could not allocate tensor with 268435456 bytes. There is not enough GPU video memory available!",
            "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5 (PI_ERROR_OUT_OF_RESOURCES)",
            "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
            "Native API failed. Native API returns: -6 (PI_ERROR_OUT_OF_HOST_MEMORY)",
            "RESOURCE_EXHAUSTED: 8589934592 bytes.",
            "vk::Queue::submit: ErrorOutOfDeviceMemory",
            "miopenStatusAllocFailed",
            "CL_MEM_OBJECT_ALLOCATION_FAILURE",
            "could not create a memory object: dnnl_out_of_memory",
            "Failed to allocate memory for requested buffer of size 268435456",
            "std::bad_alloc",
        ),
    ),
]

OTHER_TROUBLE = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("Expected all tensors to be on the same device"),
    RuntimeError("Cannot set version_counter for inference tensor"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    ValueError("out of memory"),
    TaesdError("No weights", "there is no file"),
    None,
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:40])
def test_memory_that_ran_out_is_known_by_every_text(error):
    assert is_out_of_memory(error)
    wrapped = TaesdError("Cannot decode", "see above")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize("error", OTHER_TROUBLE, ids=str)
def test_other_trouble_is_not_taken_for_it(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("enough", TILE_SIDES)
def test_tiles_get_smaller_until_one_fits(enough):
    tried = []

    def work(tile):
        tried.append(tile)
        if tile == "auto" or tile > enough:
            raise RuntimeError("MPS backend out of memory")
        return "picture"

    assert in_less_memory(work, "auto") == "picture"
    assert tried == ["auto", *(side for side in TILE_SIDES if side >= enough)]


@pytest.mark.parametrize(
    ("tile", "errors"),
    [("off", ["out of memory"]), (640, ["out of memory"]), ("auto", ["out of memory", "boom"])],
)
def test_a_choice_is_not_overruled_and_any_other_error_comes_out_at_once(tile, errors):
    left = iter(errors)

    def work(_tile):
        raise RuntimeError(next(left))

    with pytest.raises(RuntimeError, match=errors[-1]):
        in_less_memory(work, tile)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Codec("taesd", native_format("taesd"), encoder=tiny.Encoder(4).eval(), decoder=tiny.Decoder(4).eval())


def test_a_picture_is_tiled_as_little_as_memory_allows(codec, monkeypatch):
    latent, sides = torch.randn(1, 4, 46, 46), []
    whole = codec.decode(latent, on_tiled=sides.append)
    monkeypatch.setattr(memory, "TILE_SIDES", (184,))
    run, calls = Codec._checked, []

    def fails_at_first(self, part, given):
        calls.append(part.shape)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory.")
        return run(self, part, given)

    monkeypatch.setattr(Codec, "_checked", fails_at_first)
    torch.testing.assert_close(codec.decode(latent, on_tiled=sides.append), whole, atol=1e-5, rtol=0)
    assert len(calls) == 1 + 4
    assert sides == [184]


def test_what_is_free_on_a_card_decides(codec, monkeypatch):
    assert memory.free_bytes(torch.device("cpu")) is None, "nobody says it there"
    latent, image, sides = torch.randn(1, 4, 25, 25), torch.rand(1, 3, 200, 200), []
    monkeypatch.setattr("taesd_ext.codec.tiling.TILE", 184)
    monkeypatch.setattr("taesd_ext.codec.placement.free_bytes", lambda device: 1 << 20)
    tiled = codec.decode(latent, on_tiled=sides.append)
    codec.encode(image, on_tiled=sides.append)
    assert sides == [184, 184]
    monkeypatch.setattr("taesd_ext.codec.placement.free_bytes", lambda device: 8 << 30)
    monkeypatch.setattr("taesd_ext.codec.tiling.WHOLE_BYTES", 0)
    assert torch.equal(codec.decode(latent, on_tiled=sides.append), tiled)
    assert len(sides) == 2
