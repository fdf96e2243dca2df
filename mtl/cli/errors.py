"""What a command raises where it cannot do what it is asked for."""


class BadInput(Exception):
    """The user's input cannot be worked with; the message is one line."""


class Failed(Exception):
    """Something went wrong while a command was at work; the message names the file with the traceback."""


class Interrupted(Exception):
    """The user ended a command that had work to show; the message says what is saved and how to go on."""
