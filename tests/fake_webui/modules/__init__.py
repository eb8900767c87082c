"""A WebUI of A1111's kind, as small as can be: the seams that the extension uses, with the host's own quirks."""
