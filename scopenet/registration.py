"""Registers the meta architecture, the p5-sourced pyramid and the built-in data sets with
Detectron2; importing this module does it, and ``import scopenet`` imports it."""

from .config import add_scopenet_config
from .config_file import load_config
from .data.builtin import register_builtin_datasets
from .modeling import ScopeHead, ScopeNet, ScopeNetWithTTA

__all__ = ["ScopeHead", "ScopeNet", "ScopeNetWithTTA", "add_scopenet_config", "load_config"]

register_builtin_datasets()
