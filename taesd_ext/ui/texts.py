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
