from __future__ import annotations

import torch

device, dtype = torch.device("cpu"), torch.float32
