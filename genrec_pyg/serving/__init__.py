r"""Bundles that serve a run without its data, and the service; nothing but export needs torch."""
