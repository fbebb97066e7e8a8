r"""Models fitted in closed form or by counting."""
