"""What stands between an operator and a vault, whichever way the vault is run."""


class StackError(Exception):
    """The vault does not do what it should; the text says what, and quotes the program in question."""
