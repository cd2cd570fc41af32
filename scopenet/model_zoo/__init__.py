"""Published models, under the names of Detectron2's own ``model_zoo``; see docs/model_zoo.md.

Nothing that is read from a zoo can run code.
"""

from .models import get, get_checkpoint_url, get_config, get_config_file, published

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file", "published"]
