"""A device with one queue: work that is asked for is done later, and a copy to the CPU waits for all of it."""

import torch
from fake_codec import Clock, FakeCodec
from torch import Tensor
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("mps")


class OnDevice(Tensor):
    """A tensor that says it lies there."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function == Tensor.device.__get__:
            return DEVICE
        return super().__torch_function__(function, types, args, kwargs or {})


class SimulatedDevice(TorchFunctionMode):
    """Entered, tensors are moved there and back as usual. ``clock`` is moved by waiting only."""

    def __init__(self, clock: Clock, memory: float = float("inf")) -> None:
        super().__init__()
        self.clock, self.memory = clock, memory
        self.uploads = 0
        self._done_at = clock.now

    def enqueue(self, seconds: float) -> None:
        self._done_at = max(self._done_at, self.clock.now) + seconds

    def take(self, memory: float) -> None:
        """Memory for as long as a piece of work lasts."""
        if memory > self.memory:
            raise torch.cuda.OutOfMemoryError("out of memory")

    def synchronize(self) -> None:
        self.clock.now = max(self.clock.now, self._done_at)

    def latent(self) -> OnDevice:
        return torch.randn(1, 4, 8, 8).as_subclass(OnDevice)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (Tensor.to, Tensor.cpu):
            tensor, *places = args
            places = [torch.device(place) for place in places if isinstance(place, (str, torch.device))]
            target = torch.device("cpu") if function is Tensor.cpu else next(iter(places), None)
            if isinstance(tensor, OnDevice) and target == torch.device("cpu"):
                self.synchronize()
                return tensor.as_subclass(Tensor).clone()
            if not isinstance(tensor, OnDevice) and target == DEVICE:
                self.uploads += 1
                return tensor.clone().as_subclass(OnDevice)
            if target == DEVICE:
                return tensor.clone()
        return function(*args, **kwargs)


class CodecOnDevice(FakeCodec):
    """Its decodes wait in the device's queue, and take memory."""

    def __init__(
        self, machine: SimulatedDevice, cost: dict[str, float], memory: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        self.device = DEVICE
        self.machine, self._seconds, self._memory = machine, cost, memory or {}

    def decode(self, latent, *, detail="full"):
        assert latent.device == DEVICE
        self.machine.take(self._memory.get(detail, 0))
        self.machine.enqueue(self._seconds[detail])
        return super().decode(latent, detail=detail).as_subclass(OnDevice)
