"""The two ways a case ends other than well."""


class Absent(Exception):
    """The client has no such feature."""


class Wrong(Exception):
    """The broker's answer is not what it must be."""
