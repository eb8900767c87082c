"""The panel's model manager: what is there, what is wrong with it, and how to get more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from taesd_ext.codec.embedded import embedded_families
from taesd_ext.commands.doctor import diagnose
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.ui import compat
from taesd_ext.ui.actions import LOCKED, PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.controls import heading, line, refresh_button, small_button
from taesd_ext.ui.downloads import download, download_choices, download_label, megabytes, missing_families
from taesd_ext.ui.learnt_box import build_learnt_box
from taesd_ext.ui.markup import badge, notice, table
from taesd_ext.ui.work import Task, long_action
from taesd_ext.weights.identify import OFFICIAL, UNREADABLE, UNVERIFIED, identify
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import add_file
from taesd_ext.weights.tiny_file import PARTS

WITHOUT_FILES = "Previews need no file. With one they are finer, and TAESD can decode and encode finished images."
OWN = "own or converted"


def status_html(actions: PanelActions) -> str:
    """Which family the loaded checkpoint uses and why, and what went wrong last."""
    lines = []
    detection = actions.detection()
    if detection is not None and detection.format:
        family = detection.family or "no tiny autoencoder"
        lines.append(notice(f"The loaded model is {detection.format.title}, which uses {family}: {detection.reason}."))
    elif detection is not None:
        lines.append(notice(f"The loaded model's family is not known: {detection.reason}.", "warning"))
    elif actions.has_checkpoint:
        lines.append(notice("No model is loaded yet."))
    if error := actions.last_error():
        lines.append(notice(f"Last preview error: {error}", "bad"))
    # The page compares it with the model that is loaded later: javascript/taesd_ext.js.
    model = detection.format.name if detection is not None and detection.format else ""
    return f'<div data-model="{model}">{"".join(lines)}</div>'


def families_html(folders: list[Path]) -> str:
    """Which file serves each part of each family."""
    used = installed(folders)
    rows = []
    for family in FAMILIES:
        name, titles = family, ", ".join(row.title for row in LATENT_FORMATS if row.family == family)
        found = used.get(family, {})
        # A file that holds both parts has one line.
        for path in dict.fromkeys(found.get(part) for part in PARTS):
            parts = " + ".join(part for part in PARTS if found.get(part) == path)
            state, version, size, licence, file = _file_cells(path) if path else (_without_file(family), *[""] * 4)
            rows.append((name, parts, state, version, size, licence, titles, file))
            name = titles = ""
    head = ("Family", "Part", "State", "Version", "Size", "Licence", "For", "File")
    return table(head, rows, "taesd-ext-models")


def _without_file(family: str) -> str:
    return badge("embedded", "fair") if family in embedded_families() else badge("missing", "none")


def _file_cells(path: Path) -> tuple[str, str, str, str, str]:
    """(state, version, size, licence, file)"""
    found = identify(path)
    words = OWN if found.state == UNVERIFIED else found.state
    state = badge(words, {OFFICIAL: "good", UNREADABLE: "bad"}.get(found.state, "fair"))
    official = found.official
    about = (official.version, official.licence) if official else ("", "")
    return state, about[0], megabytes(found.size), about[1], str(path)


def wanted_family(actions: PanelActions) -> str:
    """The loaded model's family where it has none of its files yet, without a model the first one's; else ""."""
    detection = actions.detection()
    family = detection.family if detection is not None and detection.format else FAMILIES[0]
    return family if family in missing_families(actions.codecs.folders()) else ""


def report(actions: PanelActions) -> str:
    """What a person pastes into a question: versions, families, files, the last error and what previews cost."""
    error, stats = actions.last_error(), actions.session().stats
    timings = [f"a preview at detail {stats.detail}: {stats.milliseconds:.1f} ms"] if stats.frames else []
    errors = [error] if error else []
    return diagnose(actions.codecs.folders(), host=actions.program, errors=errors, timings=timings).text


def build_models_tab(actions: PanelActions, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fill the tab that is being built."""
    allowed = actions.allowed_to_change()
    line(value="" if allowed else notice(LOCKED))
    status, findings = line("taesd_models_status"), line("taesd_findings")
    with gr.Row(elem_classes="taesd-ext-with-button"):
        without_files = line("taesd_without_files")
        get_first = small_button("Download", "taesd_get", variant="primary", scale=0, min_width=240, visible=False)
    first_progress = line("taesd_get_progress")
    families = gr.HTML(elem_id="taesd_models_table")
    result = line("taesd_models_result")
    with gr.Row():
        with gr.Column(min_width=280):
            heading("Download")
            offered = download_choices()
            wanted = gr.Dropdown(
                offered, value=offered[0], elem_id="taesd_download_family", label="Family to download",
                info="official files, verified by their published checksums",
            )  # fmt: skip
            with gr.Row():
                get = small_button("Download selected", "taesd_download", variant="primary", interactive=allowed)
                get_all = small_button("Download all missing", "taesd_download_all", interactive=allowed)
                cancel = small_button("Cancel", "taesd_download_cancel")
            progress, all_progress = line("taesd_download_progress"), line("taesd_download_all_progress")
        with gr.Column(min_width=280):
            heading("A file of your own")
            own = compat.file_box(
                "Drop a weight file: it is identified, checked and put in place", elem_id="taesd_own_file", height=150,
                interactive=allowed,
            )  # fmt: skip
    with gr.Row():
        folders_line = gr.HTML(elem_id="taesd_folders")
        refresh = refresh_button("taesd_models_refresh")
    if actions.learnt is not None:
        build_learnt_box(actions, actions.learnt, tab, page)
    with gr.Accordion("Report", open=False, elem_id="taesd_report"):
        make_report = small_button("Create report", "taesd_report_make")
        report_text = gr.Textbox(
            lines=12, max_lines=30, interactive=False, elem_id="taesd_report_text",
            label="For a question or a bug report",
            info="it contains no prompts, and your home folder appears as ~", **compat.copy_button(),
        )  # fmt: skip

    shown = [status, findings, families, folders_line, without_files, get_first]

    def look() -> list[Any]:
        folders = actions.codecs.folders()
        problems = "".join(notice(problem, "warning") for problem in diagnose(folders).problems)
        where = f"New files go to {actions.own_folder()}. Searched: {', '.join(map(str, folders)) or 'nothing there'}."
        family = wanted_family(actions)
        first = gr.update(value=download_label(family), visible=allowed) if family else gr.update(visible=False)
        return [
            status_html(actions), problems, families_html(folders), notice(where),
            notice(WITHOUT_FILES if family else ""), first,
        ]  # fmt: skip

    def fetch(task: Task, names: list[str]) -> tuple[str, list[Any]]:
        actions.require_change()
        return download(names, actions.own_folder(), task, actions.files_changed), look()

    def get_one(task: Task, name: Any) -> tuple[str, list[Any]]:
        return fetch(task, [compat.key_of(picked(name, offered, "family"))])

    def get_wanted(task: Task) -> tuple[str, list[Any]]:
        return fetch(task, list(filter(None, [wanted_family(actions)])))

    def get_missing(task: Task) -> tuple[str, list[Any]]:
        return fetch(task, missing_families(actions.codecs.folders()))

    def add(value: Any) -> list[Any]:
        if value is None:
            return ["", *[gr.update()] * len(shown)]
        try:
            actions.require_change()
            added = add_file(compat.file_path(value), actions.own_folder())
        except TaesdError as error:
            return [notice(str(error), "bad"), *look()]
        actions.files_changed()
        return [notice(f"Added as {added.path.name} ({added}) to {added.path.parent}.", "good"), *look()]

    # The tab that is open from the start is never selected.
    for event in (page.load, tab.select, refresh.click):
        event(look, None, shown, show_progress="hidden")
    long_action(get.click, cancel, wanted, progress, shown, get_one, "taesd_download")
    long_action(get_first.click, cancel, None, first_progress, shown, get_wanted, "taesd_get")
    long_action(get_all.click, cancel, None, all_progress, shown, get_missing, "taesd_download_all")
    own.upload(add, own, [result, *shown], show_progress="hidden")
    make_report.click(lambda: report(actions), None, report_text, show_progress="hidden")
