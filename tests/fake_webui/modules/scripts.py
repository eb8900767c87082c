AlwaysVisible = object()


class Script:
    is_img2img = False
    args = ()

    def elem_id(self, item):
        return f"script_{item}"
