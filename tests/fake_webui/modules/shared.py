import time

from modules.options import OptionInfo, Options

PREVIEWS, VAE = ("ui", "Live previews"), ("vae", "VAE")
METHODS = {"choices": ["Full", "Approx NN", "Approx cheap", "TAESD"]}
parallel_processing_allowed = True
sd_model = None  # the real one loads a model when it is read: nothing of ours may read it

opts = Options(
    {
        "show_progress_type": OptionInfo("Approx NN", component_args=METHODS, section=PREVIEWS),
        "show_progress_every_n_steps": OptionInfo(10, section=PREVIEWS),
        "show_progress_grid": OptionInfo(True, section=PREVIEWS),
        "live_previews_enable": OptionInfo(True, section=PREVIEWS),
        "live_previews_image_format": OptionInfo("png", section=PREVIEWS),
        "live_preview_fast_interrupt": OptionInfo(False, section=PREVIEWS),
        "sd_vae_decode_method": OptionInfo("Full", section=VAE, infotext="VAE Decoder"),
        "sd_vae_encode_method": OptionInfo("Full", section=VAE, infotext="VAE Encoder"),
    }
)


class State:
    def __init__(self):
        self.exceptions = []
        self.begin()
        self.end()

    def begin(self):
        self.time_start = time.time_ns()
        self.interrupted = False
        self.job, self.job_count = "(unknown)", -1
        self.current_latent = self.current_image = None
        self.id_live_preview = self.sampling_step = self.sampling_steps = self.current_image_sampling_step = 0

    def end(self):
        self.job, self.job_count = "", 0

    def set_current_image(self):
        """Somebody polls."""
        period = opts.show_progress_every_n_steps
        due = self.sampling_step - self.current_image_sampling_step >= period
        if parallel_processing_allowed and due and opts.live_previews_enable and period != -1:
            self.do_set_current_image()

    def do_set_current_image(self):
        from modules import sd_samplers_common

        if self.current_latent is None:
            return
        try:
            self.assign_current_image(sd_samplers_common.sample_to_image(self.current_latent))
            self.current_image_sampling_step = self.sampling_step
        except Exception as error:
            self.exceptions.append(error)

    def assign_current_image(self, image):
        self.current_image = image
        self.id_live_preview += 1

    def nextjob(self):
        if opts.live_previews_enable and opts.show_progress_every_n_steps == -1:
            self.do_set_current_image()
        self.sampling_step = self.current_image_sampling_step = 0


state = State()
