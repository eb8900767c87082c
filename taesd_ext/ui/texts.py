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
FAMILY = Text("Model family", "the tiny autoencoder that draws the preview")
STEPS = Text("Sampling steps")
STEP_TIME = Text("Step time (ms)", "how long the simulated model takes for each step")
INTERVAL = Text("Preview every N steps", "1 = at every step")
DETAIL = Text("Detail", "preview size; Auto uses as much as the budget allows")
BUDGET = Text("Budget (%)", "share of the time previews may take; 0 = no limit")
SIZE = Text("Picture size", "longer side in pixels")
RUN = Text("Generate")
STOP = Text("Stop")
STAGE_EMPTY = "Press Generate"
COLOURS_ONLY = "These are rough colours only: this family needs its files to encode the picture."
STAGE_WAITING = "Waiting for the first preview"
SUBTITLE = "live previews and tiny VAEs"

# A shared WebUI
LOCKED = "This WebUI is shared: files and settings cannot be changed from its pages."
NOT_SHOWN = "This WebUI is shared: other people's images are not shown."

# Live previews that are not by TAESD yet
OFFER_USE = Text("Use TAESD")
OFFER_DISMISS = Text("Don't show again")
OFFER_TAKEN = "Live previews are by TAESD from now on."

# Models
MODELS = Text("Models")
MODELS_HEAD = ("Family", "Part", "State", "Reduced detail", "Version", "Size", "Licence", "For", "File")
UNVERIFIED = "own or converted"
DETAILS_NONE = "not yet"
DETAILS_HELP = (
    "Reduced detail makes previews cheap. It comes with the extension; for your own files it is learned here while the "
    "WebUI is idle."
)
GET = Text("Download")
WITHOUT_FILES = "Previews need no file. With one they are finer, and TAESD can decode and encode finished images."
DOWNLOAD_FAMILY = Text("Family to download", "official files, verified by their published checksums")
DOWNLOAD = Text("Download selected")
DOWNLOAD_ALL = Text("Download all missing")
CANCEL = Text("Cancel")
CANCELLED = "Cancelled."
STILL_RUNNING = "This is already running, perhaps in another page. Wait for it, or cancel it."
NOTHING_TO_GET = "Nothing is missing."
OWN_FILE = Text("A file of your own")
OWN_FILE_DROP = Text("Drop a weight file: it is identified, checked and put in place")
FILES = Text("Files")
FILE = Text("Weight file", "autoencoders in the folders that are searched")
VERIFY = Text("Verify")
REMOVE = Text("Remove")
REALLY_REMOVE = Text("Yes, delete it")
KEEP = Text("Keep it")
REFRESH = Text("Refresh")
HOST_VAES = Text("Fine-tuned VAEs for the WebUI's own SD VAE setting")
HOST_VAE = Text("Fine-tuned VAE", "for Stable Diffusion 1 and 2; saved to models/VAE")
HOST_VAE_GET = Text("Download to models/VAE")
HOST_VAE_DROP = Text("Drop a full VAE: it is checked and copied to models/VAE")
HOST_VAE_QUICK = Text("Show SD VAE at the top of the page")
HOST_VAE_WHERE = "Refresh the list at Settings > VAE > SD VAE to see it."
HOST_VAE_SHOWN = "SD VAE joins the quick settings with the next Reload UI."
HOST_VAE_SHOWN_ALREADY = "SD VAE is already in the quick settings."
LEARNT = Text("Previews learned from finished images")
LEARNT_HEAD = ("Model", "PSNR", "Images")
LEARNT_NONE = "Nothing has been learned yet: this is for models without a tiny decoder."
LEARNT_KIND = Text("Learned preview", "it is learned anew from the next finished image")
FORGET = Text("Forget")
REPORT = Text("Report")
REPORT_MAKE = Text("Create report")
REPORT_TEXT = Text("For a question or a bug report", "it contains no prompts, and your home folder appears as ~")

# Settings
SETTINGS = Text("Settings")
NO_COST = "The cost of previews is measured during the next job."
SAVED_AT_ONCE = "Changes are saved at once."
PREVIEWS = Text("Live previews")
FINAL_IMAGE = Text("Final image")
ADVANCED = Text("Advanced")
SHOW_DETAILS = Text("Show the last image at each detail")
NO_LATENT = "There is no image yet. Generate one first."
NO_FAMILY = "No tiny autoencoder is known for the last image's model."

# Latents
LATENTS = Text("Latents")
TO_LATENT = Text("Picture to latent")
LATENT_SOURCE = Text("Picture")
LATENT_FAMILY = Text("Family", "the model family whose latent it becomes")
LATENT_KIND = Text("File", "a PNG is small and can be shared like any image")
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
NO_TIMELINE = "No previews yet. They appear here while and after images are generated."
FILM_KIND = Text("Format")
FILM_LENGTH = Text("Length (s)")
FILM_HOLD = Text("Last frame (s)")
FILM_SIDE = Text("Side (px)")
SAVE_FILM = Text("Save film")
FILM_FILE = Text("Film")

MOMENT = Text("Moment", "each step's prediction and the finished image, newest first")
FULL_PICTURE = Text("Full picture")
PREVIEW = Text("Preview")

# Re-decode
REDECODE = Text("Re-decode")
KEPT = Text("Finished image", "the latents of the last images are kept in memory")
AGAIN_DECODER = Text("Decode with", "two decodes of the same image are shown with a slider")
AGAIN = Text("Re-decode")
SAVE_PICTURE = Text("Save")
AGAIN_EMPTY = "Decode a finished image with another decoder, without generating it again"
NO_DECODER = "No decoder is installed for this image's model. Download one in the Models tab."
NOTHING_TO_SAVE = "Re-decode an image first."
DECODED_GONE = "This image is no longer in memory. Re-decode it."
SAVED = "The image can be downloaded below."
SAVED_FILE = Text("Picture")

# Compare
COMPARE = Text("Compare")
ORIGINAL = "original"
COMPARE_PICTURE = Text("Picture to encode and decode")
COMPARE_CODECS = Text("Codecs", "those with both an encoder and a decoder installed")
COMPARE_RUN = Text("Compare")
NO_CODECS = "Choose at least one codec. Without weights there are none: download some in the Models tab."
COMPARE_HEAD = ("Codec", "PSNR", "SSIM", "Encode", "Decode", "Memory", "Latent PNG", "PSNR by PNG")
LEFT = Text("Left")
RIGHT = Text("Right")
DIFFERENCE = Text("Difference")
EXPORT = Text("Export")
EXPORTED = Text("Page and numbers")
COMPARISON_GONE = "This comparison is no longer in memory. Compare again."

# Benchmark
BENCHMARK = Text("Benchmark")
BENCHMARK_FAMILY = Text("Family", "its decoder is timed, from the latent to the encoded frame")
BENCHMARK_SIDE = Text("Up to", "largest picture side in pixels")
BENCHMARK_RUN = Text("Measure")
BENCHMARK_HEAD = ("Picture", "Detail", "Preview", "Time")
