"""Running exported detectors on onnxruntime or OpenVINO, without torch, Detectron2 and Pillow."""

from .predictor import Predictor

__all__ = ["Predictor"]
