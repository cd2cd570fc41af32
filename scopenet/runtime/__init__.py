"""Running exported detectors on onnxruntime or OpenVINO; of all the package only this part works
without torch and Detectron2."""

from .predictor import Predictor

__all__ = ["Predictor"]
