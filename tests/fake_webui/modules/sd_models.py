import torch


class Model:
    """Its full VAE paints everything white, and counts."""

    def __init__(self, channels=4, **flags):
        self.latent_channels = channels
        self.full_decodes = self.full_encodes = 0
        vars(self).update({"is_sd1": False, "is_sdxl": False, "is_sd3": False, **flags})

    def decode_first_stage(self, sample):
        self.full_decodes += 1
        return torch.ones(len(sample), 3, *(8 * side for side in sample.shape[-2:]))

    def encode_first_stage(self, image):
        self.full_encodes += 1
        return torch.ones(len(image), self.latent_channels, *(side // 8 for side in image.shape[-2:]))


class ModelData:
    sd_model = None


model_data = ModelData()
