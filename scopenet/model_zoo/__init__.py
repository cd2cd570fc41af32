"""Published models, under the names of Detectron2's own ``model_zoo``.

A zoo is a folder, or the same folder behind an http(s) address::

    index.json                       which files belong to which config, and their sha256
    MODEL_ZOO.md                     the table that is written from it
    <config>/<id>/model_final_*.pkl  weights in Detectron2's format, the same ones as .safetensors,
                                     config.yaml, class_names.json, metrics.json, README.md

The files of an id never change. Nothing that is read from a zoo can run code.
"""

from .models import get, get_checkpoint_url, get_config, get_config_file

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]
