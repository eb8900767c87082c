from types import SimpleNamespace

callbacks = {}


def _register(event):
    def register(callback):
        callbacks.setdefault(event, []).append(callback)

    return register


for _event in ("before_ui", "ui_settings", "model_loaded", "cfg_denoiser", "cfg_after_cfg", "script_unloaded"):
    globals()[f"on_{_event}"] = _register(_event)


def call(event, *args, **params):
    """Parameters go to the callbacks as one object, as in the host."""
    for callback in list(callbacks.get(event, ())):
        callback(*args, *([SimpleNamespace(**params)] if params else []))
