"""How files of others are refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConfigError


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Say in one sentence, as a ConfigError, that ``what`` is so and why, if reading a file raises:
    a file that may hold anything raises nearly anything."""
    try:
        yield
    except Exception as error:
        is_known = isinstance(error, ConfigError)
        reason = " ".join((str(error) if is_known else f"{type(error).__name__}, {error}").split())
        raise ConfigError(f"{what}: {reason.rstrip('.!')}.") from error
