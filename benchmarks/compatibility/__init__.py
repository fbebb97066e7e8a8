r"""What the package installs and passes its tests with."""
