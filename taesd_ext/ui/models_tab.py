"""The panel's model manager: what is there, get it, check it, take it out."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from taesd_ext.commands.doctor import diagnose
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.downloads import download, download_choices, download_label, missing_families
from taesd_ext.ui.host_vae_box import build_host_vae_box
from taesd_ext.ui.learnt_box import build_learnt_box
from taesd_ext.ui.markup import REFRESH_CLASS, SMALL, notice
from taesd_ext.ui.models_table import families_html
from taesd_ext.ui.report_box import build_report_box
from taesd_ext.ui.work import Task, long_action
from taesd_ext.weights.folders import weight_files
from taesd_ext.weights.identify import Identity, identify
from taesd_ext.weights.store import add_file, remove_file


def status_html(actions: PanelActions) -> str:
    """Which family the loaded checkpoint uses and why, and what went wrong last."""
    lines = [notice(note) for note in actions.notes]
    detection = actions.detection()
    if detection is not None and detection.format:
        family = detection.family or "no tiny autoencoder"
        lines.append(notice(f"The loaded model is {detection.format.title}, which uses {family}: {detection.reason}."))
    elif detection is not None:
        lines.append(notice(f"The loaded model's family is not known: {detection.reason}."))
    elif actions.has_checkpoint:
        lines.append(notice("No model is loaded yet."))
    if error := actions.last_error():
        lines.append(notice(f"Last preview error: {error}", "bad"))
    # The page compares it with the model that is loaded later: javascript/taesd_ext.js.
    model = detection.format.name if detection is not None and detection.format else ""
    return f'<div data-model="{model}">{"".join(lines)}</div>'


def findings_html(actions: PanelActions) -> str:
    """What is wrong with the installation, each with its cure."""
    return "".join(notice(problem, "warning") for problem in diagnose(actions.folders()).problems)


def wanted_family(actions: PanelActions) -> str:
    """The loaded model's family where it has none of its files yet, without a model the first one's; else ""."""
    detection = actions.detection()
    family = detection.family if detection is not None and detection.format else FAMILIES[0]
    return family if family in missing_families(actions.folders()) else ""


def first_download(actions: PanelActions) -> list[Any]:
    """[the line about what the wanted family's files bring, the button that gets them]"""
    family = wanted_family(actions)
    if not family:
        return ["", gr.update(visible=False)]
    return [notice(texts.WITHOUT_FILES), gr.update(value=download_label(family), visible=actions.allowed_to_change())]


def our_files(actions: PanelActions) -> list[Path]:
    """The weight files that a page may name: autoencoders known here, and damaged files, which may have been such."""
    found = (identify(path) for path in weight_files(actions.folders()))
    return [each.path for each in found if each.is_autoencoder or each.error]


def removable_files(actions: PanelActions) -> list[Path]:
    """Those of them that lie where this extension puts its files: nothing of the host's."""
    folder = actions.own_folder()
    return [path for path in our_files(actions) if folder.is_dir() and path.parent.samefile(folder)]


def describe(identity: Identity) -> tuple[str, str]:
    """(line, kind of notice) about one file."""
    if identity.error:
        return identity.error, "bad"
    if identity.official:
        return f"{identity.path.name} is {identity.official}: its checksum is the published one.", "good"
    if identity.kind:
        return (
            f"{identity.path.name} is {identity}. Its structure is right; it may be a published one in half precision, "
            "or one of your own: its content cannot be verified.", "info",
        )  # fmt: skip
    return f"{identity.path.name} is no autoencoder known here.", "info"


def build_models_tab(actions: PanelActions, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fill the tab that is being built."""
    allowed = actions.allowed_to_change()
    can = {**SMALL, "interactive": allowed}
    gr.HTML("" if allowed else notice(texts.LOCKED), elem_classes="taesd-ext-line")
    status = gr.HTML(elem_id="taesd_models_status", elem_classes="taesd-ext-line")
    findings = gr.HTML(elem_id="taesd_findings", elem_classes="taesd-ext-line")
    with gr.Row(elem_classes="taesd-ext-with-button"):
        without_files = gr.HTML(elem_id="taesd_without_files", elem_classes="taesd-ext-line")
        get_first = gr.Button(
            texts.GET.label, variant="primary", size="sm", scale=0, min_width=240, visible=False, elem_id="taesd_get"
        )
    families = gr.HTML(elem_id="taesd_models_table")
    gr.HTML(f'<p class="taesd-ext-help">{escape(texts.DETAILS_HELP)}</p>')
    result = gr.HTML(elem_id="taesd_models_result", elem_classes="taesd-ext-line")
    with gr.Row():
        with gr.Column(min_width=280):
            gr.HTML(f"<h3>{texts.GET.label}</h3>")
            offered = download_choices()
            wanted = gr.Dropdown(
                offered, value=offered[0], elem_id="taesd_download_family",
                **texts.DOWNLOAD_FAMILY.control(),
            )  # fmt: skip
            with gr.Row():
                get = gr.Button(texts.DOWNLOAD.label, variant="primary", **can, elem_id="taesd_download")
                get_all = gr.Button(texts.DOWNLOAD_ALL.label, **can, elem_id="taesd_download_all")
                cancel = gr.Button(texts.CANCEL.label, **SMALL, elem_id="taesd_download_cancel")
            progress = gr.HTML(elem_id="taesd_download_progress", elem_classes="taesd-ext-line")
        with gr.Column(min_width=280):
            gr.HTML(f"<h3>{texts.OWN_FILE.label}</h3>")
            own = compat.file_box(texts.OWN_FILE_DROP.label, elem_id="taesd_own_file", height=150, interactive=allowed)
        with gr.Column(min_width=280):
            gr.HTML(f"<h3>{texts.FILES.label}</h3>")
            chosen = gr.Dropdown([], elem_id="taesd_file", **texts.FILE.control())
            with gr.Row():
                verify = gr.Button(texts.VERIFY.label, **SMALL, elem_id="taesd_verify")
                remove = gr.Button(texts.REMOVE.label, **can, elem_id="taesd_remove")
            with gr.Column(visible=False, min_width=0) as confirm:
                warning = gr.HTML(elem_id="taesd_remove_which", elem_classes="taesd-ext-line")
                with gr.Row():
                    really = gr.Button(texts.REALLY_REMOVE.label, variant="stop", **SMALL, elem_id="taesd_remove_yes")
                    keep = gr.Button(texts.KEEP.label, **SMALL, elem_id="taesd_remove_no")
            present, to_remove = gr.State(None), gr.State("")
    with gr.Row():
        folders_line = gr.HTML(elem_id="taesd_folders")
        refresh = gr.Button(
            texts.REFRESH.label, scale=0, **SMALL, elem_id="taesd_models_refresh", elem_classes=REFRESH_CLASS
        )
    if actions.host_vaes is not None:
        build_host_vae_box(actions, actions.host_vaes)
    if actions.learnt is not None:
        build_learnt_box(actions, actions.learnt, tab, page)
    build_report_box(actions)

    shown = [status, findings, families, chosen, folders_line, without_files, get_first]

    def look(present: str | None, *, whole: bool = True) -> list[Any]:
        """What all parts show; those that must load files are left as they are, or unknown, if not ``whole``.

        ``present``: the weight file that was chosen, which stays so while it is there.
        """
        folders = actions.folders()
        files = [str(path) for path in our_files(actions)]
        where = f"New files go to {actions.own_folder()}. Searched: {', '.join(map(str, folders)) or 'nothing there'}."
        return [
            status_html(actions), findings_html(actions) if whole else gr.update(), families_html(folders, look=whole),
            gr.update(choices=files, **({} if present in files else {"value": None})), notice(where),
            *first_download(actions),
        ]  # fmt: skip

    def quick_look(present: str | None) -> list[Any]:
        return look(present, whole=False)

    def rest(present: str | None) -> list[Any]:
        later = look(present)
        later[shown.index(chosen)] = gr.update()  # the user may have chosen by now
        return later

    def fetch(task: Task, names: list[str], present: str | None) -> tuple[str, list[Any]]:
        return download(actions, names, task), look(present)

    def get_one(task: Task, name: Any, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, [compat.key_of(picked(name, offered, "family"))], present)

    def get_wanted(task: Task, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, list(filter(None, [wanted_family(actions)])), present)

    def get_missing(task: Task, present: str | None) -> tuple[str, list[Any]]:
        return fetch(task, missing_families(actions.folders()), present)

    def add(value: Any, present: str | None) -> list[Any]:
        path = compat.file_path(value)
        if path is None:
            return ["", *[gr.update()] * len(shown)]
        try:
            actions.require_change()
            added = add_file(path, actions.own_folder())
        except TaesdError as error:
            return [notice(str(error), "bad"), *look(present)]
        actions.files_changed()
        return [notice(f"Added as {added.path.name} ({added}) to {added.path.parent}.", "good"), *look(present)]

    def check(task: Task, path: Any) -> tuple[str, list[Any]]:
        file = picked(path, map(str, our_files(actions)), "file")
        task.report(0.1, Path(file).name)
        line, kind = describe(identify(file, always_hash=True))
        return "", [notice(line, kind), *look(file)]

    def ask(path: Any) -> list[Any]:
        try:
            file = picked(path, map(str, removable_files(actions)), "file of this extension's own")
        except TaesdError as error:
            return [*withdraw()[:1], notice(str(error), "bad"), ""]
        return [gr.update(visible=True), notice(f"{file} will be deleted from the disk.", "bad"), file]

    def withdraw() -> list[Any]:
        return [gr.update(visible=False), "", ""]

    def choose(path: str | None, asked: str) -> list[Any]:
        if path == asked:
            return [path, gr.update(), gr.update(), asked]
        return [path, *withdraw()]

    def delete(asked: str, present: str | None) -> list[Any]:
        try:
            actions.require_change()
            file = picked(asked, map(str, removable_files(actions)), "file of this extension's own")
            remove_file(file, [actions.own_folder()])
        except TaesdError as error:
            return [notice(str(error), "bad"), *withdraw(), *look(present)]
        actions.files_changed()
        return [notice(f"{Path(asked).name} was removed.", "good"), *withdraw(), *look(present)]

    # The tab that is open from the start is never selected.
    page.load(quick_look, present, shown, show_progress="hidden")
    for event in (tab.select, refresh.click):
        quick = event(quick_look, present, shown, show_progress="hidden")
        quick.then(rest, present, shown, show_progress="hidden")
    long_action(get.click, cancel, [wanted, present], progress, shown, get_one, "taesd_download")
    long_action(get_first.click, cancel, present, progress, shown, get_wanted, "taesd_get")
    long_action(get_all.click, cancel, present, progress, shown, get_missing, "taesd_download_all")
    long_action(verify.click, None, chosen, progress, [result, *shown], check, "taesd_verify")
    own.upload(add, [own, present], [result, *shown], show_progress="hidden")
    asking = [confirm, warning, to_remove]
    chosen.change(choose, [chosen, to_remove], [present, *asking], show_progress="hidden")
    remove.click(ask, chosen, asking, show_progress="hidden")
    keep.click(withdraw, None, asking, show_progress="hidden")
    really.click(delete, [to_remove, present], [result, *asking, *shown], show_progress="hidden")
