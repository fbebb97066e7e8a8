r"""Tables and reference models next to a result."""
