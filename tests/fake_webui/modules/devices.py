import torch

device, dtype = torch.device("cpu"), torch.float32
