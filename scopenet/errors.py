"""The one error that users see."""


class ConfigError(ValueError):
    """A config, file or flag that cannot mean what its author wants; the message is one sentence
    for the user."""
