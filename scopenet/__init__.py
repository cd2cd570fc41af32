"""ScopeNet for Detectron2: precise one-stage detection with bins and learned 1-D anchors.

Importing the package registers the meta architecture, the p5-sourced pyramid and the built-in data
sets with Detectron2. Without torch and Detectron2, as in a deployment, the import succeeds and
registers nothing; an installed but broken one raises.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("torch") and find_spec("detectron2"):
    from .config import add_scopenet_config
    from .config_file import ConfigError, load_config
    from .data.builtin import register_builtin_datasets
    from .modeling import ScopeHead, ScopeNet, ScopeNetWithTTA

    register_builtin_datasets()
    __all__ = [
        "ConfigError",
        "ScopeHead",
        "ScopeNet",
        "ScopeNetWithTTA",
        "add_scopenet_config",
        "load_config",
    ]
