r"""Questions about speed, size and quality, each answered by a program and its report."""
