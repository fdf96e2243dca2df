"""What a command raises when it cannot work with what the user gave."""


class BadInput(Exception):
    """The user's input cannot be worked with; the message is one line."""
