import io

from modules.shared import opts, state


def progressapi():
    """The bytes that the page gets."""
    buffer = io.BytesIO()
    image = state.current_image
    options = {}
    if opts.live_previews_image_format == "png":
        options = {"optimize": True} if max(image.size) <= 256 else {"optimize": False, "compress_level": 1}
    image.save(buffer, format=opts.live_previews_image_format, **options)
    return buffer.getvalue()
