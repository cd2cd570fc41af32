"""ScopeNet for Detectron2: precise one-stage detection with bins and learned 1-D anchors.

Importing the package registers the meta architecture, the p5-sourced pyramid and the built-in data
sets with Detectron2. Without torch and Detectron2, as in a deployment, the import succeeds and
registers nothing; an installed but broken one raises.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {"ConfigError": "errors", "Detector": "detector"}  # which need neither
_HAS_DETECTRON2 = bool(find_spec("torch") and find_spec("detectron2"))
if _HAS_DETECTRON2:
    _MODULES |= dict.fromkeys(
        ("ScopeHead", "ScopeNet", "ScopeNetWithTTA", "add_scopenet_config", "load_config"),
        "registration",
    )
__all__ = [*_MODULES]

if TYPE_CHECKING:  # they see what is imported when it is asked for
    from .detector import Detector as Detector
    from .errors import ConfigError as ConfigError
    from .registration import ScopeHead as ScopeHead
    from .registration import ScopeNet as ScopeNet
    from .registration import ScopeNetWithTTA as ScopeNetWithTTA
    from .registration import add_scopenet_config as add_scopenet_config
    from .registration import load_config as load_config


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'scopenet' has no attribute '{name}'")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def _is_command() -> bool:
    """Tell whether this process was started as the program ``scopenet``, which starts fast: it
    registers when one of its subcommands runs. Workers that it starts register at once."""
    is_worker = "--multiprocessing-fork" in sys.orig_argv  # which has the arguments of the program
    is_program = Path(sys.argv[0]).stem == "scopenet" or sys.orig_argv[1:3] == ["-m", "scopenet"]
    return is_program and not is_worker


if _HAS_DETECTRON2 and not _is_command():
    import_module(".registration", __name__)
