"""Running exported detectors on onnxruntime or OpenVINO, without torch and Detectron2."""

from .predictor import Predictor, to_supervision

__all__ = ["Predictor", "to_supervision"]
