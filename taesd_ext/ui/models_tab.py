"""The panel's model manager: what is there, get it, check it, take it out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from taesd_ext.codec.calibrated import details_of_file
from taesd_ext.codec.embedded import embedded_families
from taesd_ext.commands.doctor import diagnose
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.ui import compat
from taesd_ext.ui.actions import LOCKED, PanelActions
from taesd_ext.ui.controls import AT_ONCE, heading, late_dropdown, line, picked, refresh_button, remark, small_button
from taesd_ext.ui.downloads import download, download_choices, download_label, megabytes, missing_families
from taesd_ext.ui.host_vae_box import build_host_vae_box
from taesd_ext.ui.learnt_box import build_learnt_box
from taesd_ext.ui.markup import badge, notice, outcome, table
from taesd_ext.ui.work import Task, long_action
from taesd_ext.weights.identify import OFFICIAL, UNREADABLE, UNVERIFIED, Identity, identify
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import add_file, list_weights, remove_file
from taesd_ext.weights.tiny_file import PARTS

DETAILS_HELP = (
    "Reduced detail makes previews cheap. It comes with the extension; for your own files it is learned here while the "
    "WebUI is idle."
)
WITHOUT_FILES = "Previews need no file. With one they are finer, and TAESD can decode and encode finished images."
OWN = "own or converted"
NO_DETAILS = "not yet"


def status_html(actions: PanelActions) -> str:
    """Which family the loaded checkpoint uses and why, and what went wrong last."""
    detection, model, said = actions.detection(), "", ""
    if detection is not None and detection.format:
        model, family = detection.format.name, detection.family or "no tiny autoencoder"
        said = notice(f"The loaded model is {detection.format.title}, which uses {family}: {detection.reason}.")
    elif detection is not None:
        said = notice(f"The loaded model's family is not known: {detection.reason}.", "warning")
    elif actions.has_checkpoint:
        said = notice("No model is loaded yet.")
    if error := actions.last_error():
        said += notice(f"Last preview error: {error}", "bad")
    # The page compares it with the model that is loaded later: javascript/taesd_ext.js.
    return f'<div data-model="{model}">{said}</div>'


def families_html(folders: list[Path], *, look: bool = True) -> str:
    """Which file serves each part of each family. Without ``look`` no decoder is loaded to tell its details."""
    used = installed(folders)
    rows = []
    for family in FAMILIES:
        name, titles = family, ", ".join(row.title for row in LATENT_FORMATS if row.family == family)
        found = used.get(family, {})
        # A file that holds both parts has one line.
        for path in dict.fromkeys(found.get(part) for part in PARTS):
            parts = [part for part in PARTS if found.get(part) == path]
            state = badge("embedded", "fair") if family in embedded_families() else badge("missing", "none")
            details = version = size = licence = ""
            if path:
                file = identify(path)
                words = OWN if file.state == UNVERIFIED else file.state
                state = badge(words, {OFFICIAL: "good", UNREADABLE: "bad"}.get(file.state, "fair"))
                size = megabytes(file.size)
                version, licence = (file.official.version, file.official.licence) if file.official else ("", "")
                details = _details_cell(family, path, look) if "decoder" in parts else ""
            rows.append((name, " + ".join(parts), state, details, version, size, licence, titles, str(path or "")))
            name = titles = ""
    return table(
        ("Family", "Part", "State", "Reduced detail", "Version", "Size", "Licence", "For", "File"), rows,
        "taesd-ext-models", without_empty=True,
    )  # fmt: skip


def _details_cell(family: str, path: Path, look: bool) -> str:
    found = details_of_file(family, path, look=look)
    if found is None:
        return "…"
    return badge(found, "good") if found else badge(NO_DETAILS, "none")


def wanted_family(actions: PanelActions) -> str:
    """The loaded model's family where it has none of its files yet, without a model the first one's; else ""."""
    detection = actions.detection()
    family = detection.family if detection is not None and detection.format else FAMILIES[0]
    return family if family in missing_families(actions.codecs.folders()) else ""


def our_files(actions: PanelActions) -> list[Path]:
    """The weight files that a page may name: autoencoders known here, and damaged files, which may have been such."""
    return [identity.path for identity in list_weights(actions.codecs.folders())]


def removable_files(actions: PanelActions) -> list[Path]:
    """Those of them that lie where this extension puts its files: nothing of the host's."""
    folder = actions.own_folder()
    return [path for path in our_files(actions) if folder.is_dir() and path.parent.samefile(folder)]


def describe(identity: Identity) -> tuple[str, str]:
    """(line, kind of notice) about one file."""
    name = identity.path.name
    if identity.error:
        return identity.error, "bad"
    if identity.official:
        return f"{name} is {identity.official}: its checksum is the published one.", "good"
    if identity.kind:
        may_be = "it may be a published file in half precision, or one of your own"
        return f"{name} is {identity}. Its structure is right. Its content cannot be verified: {may_be}.", "info"
    return f"{name} is not a known autoencoder.", "warning"


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
    remark(DETAILS_HELP)
    result, verify_progress = line("taesd_models_result"), line("taesd_verify_progress")
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
        with gr.Column(min_width=280):
            heading("Files")
            chosen = late_dropdown(
                "taesd_file", label="Weight file", info="autoencoders in the searched folders"
            )
            with gr.Row():
                verify = small_button("Verify", "taesd_verify")
                remove = small_button("Remove", "taesd_remove", interactive=allowed)
    with gr.Row():
        folders_line = gr.HTML(elem_id="taesd_folders")
        refresh = refresh_button("taesd_models_refresh")
    if actions.host_vaes is not None:
        build_host_vae_box(actions, actions.host_vaes)
    if actions.learnt is not None:
        build_learnt_box(actions, actions.learnt, tab, page)
    with gr.Accordion("Report", open=False, elem_id="taesd_report"):
        make_report = small_button("Create report", "taesd_report_make")
        report_text = gr.Textbox(
            lines=12, max_lines=30, interactive=False, elem_id="taesd_report_text",
            label="For a question or a bug report",
            info="it contains no prompts, and your home folder appears as ~", **compat.copy_button(),
        )  # fmt: skip

    shown = [status, findings, families, folders_line, without_files, get_first, chosen]

    def look(present: str | None, *, whole: bool = True) -> list[Any]:
        """What all parts show; those that must load files are left as they are, or unknown, if not ``whole``."""
        folders = actions.codecs.folders()
        files = [str(path) for path in our_files(actions)]
        problems = diagnose(folders).problems if whole else []
        where = f"New files go to {actions.own_folder()}. Searched: {', '.join(map(str, folders)) or 'nothing there'}."
        family = wanted_family(actions)
        first = gr.update(value=download_label(family), visible=allowed) if family else gr.update(visible=False)
        return [
            status_html(actions),
            "".join(notice(problem, "warning") for problem in problems) if whole else gr.update(),
            families_html(folders, look=whole), notice(where), notice(WITHOUT_FILES if family else ""), first,
            gr.update(choices=files, **({} if present in files else {"value": None})),
        ]  # fmt: skip

    def quick_look(present: str | None) -> list[Any]:
        return look(present, whole=False)

    def rest(present: str | None) -> list[Any]:
        return [*look(present)[:-1], gr.update()]  # the user may have chosen another file by now

    def changed(change: Callable[[Any], str], value: Any, present: str | None) -> list[Any]:
        """What ``change`` says that it made of the value that a page sent, and what is there now."""
        if not value:
            return ["", *[gr.update()] * len(shown)]

        def make() -> str:
            actions.require_change()
            said = change(value)
            actions.files_changed()
            return said

        return [outcome(make), *look(present)]

    def add(value: Any) -> str:
        added = add_file(compat.file_path(value), actions.own_folder())
        return f"Added as {added.path.name} ({added}) to {added.path.parent}."

    def delete(path: Any) -> str:
        file = picked(path, map(str, removable_files(actions)), "file of this extension's own")
        remove_file(file, [actions.own_folder()])
        return f"{Path(file).name} was removed."

    def fetch(task: Task, names: list[str], present: str | None) -> tuple[str, list[Any]]:
        actions.require_change()
        return download(names, actions.own_folder(), task, actions.files_changed), look(present)

    def get_one(task: Task, name: Any, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, [compat.key_of(picked(name, offered, "family"))], present)

    def get_wanted(task: Task, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, list(filter(None, [wanted_family(actions)])), present)

    def get_missing(task: Task, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, missing_families(actions.codecs.folders()), present)

    def check(task: Task, path: Any) -> tuple[str, list[Any]]:
        file = picked(path, map(str, our_files(actions)), "file")
        task.report(0.1, Path(file).name)
        return "", [notice(*describe(identify(file, always_hash=True))), *look(file)]

    # The tab that is open from the start is never selected.
    page.load(quick_look, chosen, shown, **AT_ONCE)
    for event in (tab.select, refresh.click):
        event(quick_look, chosen, shown, **AT_ONCE).then(rest, chosen, shown, **AT_ONCE)
    long_action(get.click, cancel, [wanted, chosen], progress, shown, get_one, "taesd_download")
    long_action(get_first.click, cancel, chosen, first_progress, shown, get_wanted, "taesd_get")
    long_action(get_all.click, cancel, chosen, all_progress, shown, get_missing, "taesd_download_all")
    long_action(verify.click, None, chosen, verify_progress, [result, *shown], check, "taesd_verify")
    own.upload(lambda value, present: changed(add, value, present), [own, chosen], [result, *shown], **AT_ONCE)
    really = compat.js("file => file && confirm(`Delete this file from the disk?\\n${file}`) ? file : null")
    remove.click(lambda path: changed(delete, path, path), chosen, [result, *shown], **AT_ONCE, **really)
    make_report.click(lambda: report(actions), None, report_text, **AT_ONCE)
