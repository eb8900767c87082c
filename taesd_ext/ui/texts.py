"""Every label of the panel and the playground. The keys of the host's localisation files are these English texts."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    label: str
    help: str = ""

    def control(self) -> dict[str, str]:
        """Arguments of a gradio control."""
        return {"label": self.label, "info": self.help} if self.help else {"label": self.label}


TITLE = "TAESD"

# The playground's first tab
PLAY = Text("Live preview")
SAMPLES = Text("Sample pictures")
PICTURE = Text("Your own picture")
FAMILY = Text("Model family", "which tiny autoencoder draws the preview")
STEPS = Text("Sampling steps")
STEP_TIME = Text("Time of a step (ms)", "how long the pretended model takes for each step")
INTERVAL = Text("Preview every N steps", "1 = at each step")
DETAIL = Text("Detail", "size of the preview; Auto takes the most that the budget allows")
BUDGET = Text("Budget (%)", "share of the time that previews may take; 0 = no limit")
SIZE = Text("Picture size", "longest side in pixels")
RUN = Text("Generate")
STOP = Text("Stop")
STAGE_EMPTY = "Press Generate"
STAGE_WAITING = "Waiting for the first preview"
SUBTITLE = "live previews and tiny VAEs"

# Models
MODELS = Text("Models")
MODELS_HEAD = ("Family", "Part", "State", "Reduced detail", "Version", "Size", "Licence", "For", "File")
DETAILS_NONE = "not yet"
DETAILS_HELP = (
    "Reduced detail is what makes previews cheap: shipped with the extension, or learnt here for a file of your own, "
    "while the WebUI is idle after the first preview with it."
)
GET = Text("Download")
DOWNLOAD_FAMILY = Text("Family to download", "official files, checked by their published checksums")
DOWNLOAD = Text("Download this")
DOWNLOAD_ALL = Text("Download all missing")
CANCEL = Text("Cancel")
NOTHING_TO_GET = "Nothing is missing."
OWN_FILE = Text("A file of your own")
OWN_FILE_DROP = Text("Drop a weight file: it is recognised, checked and put in place")
FILES = Text("Files")
FILE = Text("Weight file", "in the folders that are searched")
VERIFY = Text("Verify")
REMOVE = Text("Remove")
REALLY_REMOVE = Text("Yes, delete it")
KEEP = Text("Keep it")
REFRESH = Text("Refresh")
HOST_VAES = Text("Fine-tuned VAEs for the WebUI's own SD VAE setting")
HOST_VAE = Text("Fine-tuned VAE", "for Stable Diffusion 1 and 2; goes into models/VAE, never a tiny one")
HOST_VAE_GET = Text("Download into models/VAE")
HOST_VAE_DROP = Text("Drop a full VAE: it is checked and copied into models/VAE")
HOST_VAE_QUICK = Text("Show SD VAE at the top of the page")
HOST_VAE_WHERE = "Settings > VAE > SD VAE lists it after a press of the button beside it."
HOST_VAE_SHOWN = "SD VAE is among the quick settings from the next Reload UI on."
HOST_VAE_SHOWN_ALREADY = "SD VAE is among the quick settings already."
REPORT = Text("Report")
REPORT_MAKE = Text("Write the report")
REPORT_TEXT = Text("For a question or a bug report", "no prompt is in it, and your home folder is written as ~")

# Settings
SETTINGS = Text("Settings")
NO_COST = "What previews cost is measured with the next job."
SHOW_DETAILS = Text("Show the last picture at each detail")
NO_LATENT = "There is no picture yet: generate one first."
NO_FAMILY = "No tiny autoencoder is known for the last picture's model."

# Latents
LATENTS = Text("Latents")
TO_LATENT = Text("Picture to latent")
LATENT_SOURCE = Text("Picture")
LATENT_FAMILY = Text("Family", "whose latent it becomes")
LATENT_KIND = Text("File", "a PNG is small, and can be sent like any picture")
ENCODE = Text("Encode")
LATENT_FILE = Text("Latent")
TO_PICTURE = Text("Latent to picture")
LATENT_DROP = Text("Drop a latent: PNG or safetensors")
OF_THE_FILE = "as the file says"
LATENT_DECODER = Text("Decoder")
DECODE = Text("Decode")
DECODED = Text("Picture")
NO_PICTURE = "Drop a picture first."
NO_LATENT_FILE = "Drop a latent first."
CHANNELS = "The latent as rough colours, then its channels one by one"

# Timeline
TIMELINE = Text("Timeline")
JOB = Text("Job", "previews of the last jobs, newest first")
NO_TIMELINE = "No previews are kept yet. They appear here while and after pictures are generated."
FILM_KIND = Text("Film as")
FILM_LENGTH = Text("Length (s)")
FILM_HOLD = Text("Last frame (s)")
FILM_SIDE = Text("Side (px)")
SAVE_FILM = Text("Make the film")
FILM_FILE = Text("Film")

# Final again
FINAL = Text("Final again")
KEPT = Text("Finished picture", "the latents of the last pictures are kept in memory")
AGAIN_DECODER = Text("Decode with", "two decodes of one picture are shown with a slider")
AGAIN = Text("Decode again")
SAVE_PICTURE = Text("Save")
AGAIN_EMPTY = "Decode a finished picture once more, without generating it again"
NO_DECODER = "No decoder is installed for this picture's model."
NOTHING_TO_SAVE = "Decode a picture first."
DECODED_GONE = "This picture is not kept any longer. Decode it again."
SAVED = "The picture can be downloaded below."
SAVED_FILE = Text("Picture")

# Compare
COMPARE = Text("Compare")
ORIGINAL = "original"
COMPARE_PICTURE = Text("Picture to compare with")
COMPARE_CODECS = Text("Codecs", "those of which the encoder and the decoder are there")
COMPARE_RUN = Text("Compare them")
NO_CODECS = "Choose at least one codec. There is none to choose until weights are installed."
COMPARE_HEAD = ("Codec", "PSNR", "SSIM", "Encode", "Decode", "Memory", "Latent PNG", "PSNR by PNG")
LEFT = Text("Left")
RIGHT = Text("Right")
DIFFERENCE = Text("Difference")
EXPORT = Text("Export")
EXPORTED = Text("Page and numbers")
COMPARISON_GONE = "This comparison is not kept any longer. Compare again."
PLOT_TIME = "decode time in milliseconds"
PLOT_PSNR = "PSNR in dB"

# Benchmark
BENCHMARK = Text("Benchmark")
BENCHMARK_FAMILY = Text("Family", "whose decoder is timed, from the latent to the encoded frame")
BENCHMARK_SIDE = Text("Up to", "side of the largest picture in pixels")
BENCHMARK_RUN = Text("Measure")
BENCHMARK_HEAD = ("Picture", "Detail", "Preview", "Time")
