r"""What programs of all groups share: machine, tables, processes."""
