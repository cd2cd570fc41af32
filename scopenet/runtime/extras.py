"""Importing what not every installation has."""

import importlib
from types import ModuleType

from ..errors import ConfigError


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a package that not every installation has.

    Args:
        name: of the package.
        extra: of this project, which installs it.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'{name} is missing here: pip install "scopenet[{extra}]" brings it, as does '
            f"pip install {name}."
        ) from error
