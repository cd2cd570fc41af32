"""Importing what not every installation has."""

import importlib
from types import ModuleType

from ..errors import ConfigError


def import_extra(name: str, extra: str) -> ModuleType:
    """
    Args:
        name: of a package.
        extra: of this project, which installs it.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'{name} is missing here; install it with: pip install "scopenet[{extra}]", or alone '
            f"with: pip install {name}"
        ) from error
