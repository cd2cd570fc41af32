"""Running exported detectors on onnxruntime or OpenVINO, without torch and Detectron2."""

from .predictor import Predictor

__all__ = ["Predictor"]
