"""Whole steps in other precisions, with channels-last weights, and through ``torch.compile``."""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector

from . import works
from .contestants import Contestant
from .measure import Laps, Work, peak_memory, time_in_turns
from .suites import LARGE, Record, Settings
from .workload import Case, random_inputs

PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
# Compiling takes the longest: the precision of most interest first, and few detectors.
COMPILED_PRECISIONS = (torch.bfloat16, torch.float32, torch.float16)
COMPILED_DETECTORS = 2


def use_channels_last(model: DenseDetector) -> None:
    """Lay out the weights so that a GPU's convolutions give activations with the channels next to
    each other."""
    model.to(memory_format=torch.channels_last)


def compile_network(model: DenseDetector) -> None:
    """Compile backbone and head, whose shapes do not depend on the data, at the next call."""
    # For each model and precision anew: of all kinds of calls that are seen together
    # PyTorch compiles a few only.
    torch.compiler.reset()
    for module in (model.backbone, model.head):
        module.forward = torch.compile(type(module).forward.__get__(module))


class VariantsSuite:
    """Inference and training step of the detectors in every precision, as they are, with channels
    last and, of the first few, compiled; precisions by autocast."""

    name = "variants"

    def __init__(self, size: tuple[int, int] = LARGE, precisions: Sequence = PRECISIONS):
        """Take images of ``size``, height and width in px."""
        self.steps = {
            "inference": (works.inference, Case(1, *size, 0)),
            "training": (works.training_step, Case(2, *size, 7)),
        }
        self.precisions = precisions

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time all that are of one precision and form in turns, and what is compiled alone."""
        contestants = [Contestant(x.name, deepcopy(x.model)) for x in contestants]
        for x in contestants:
            inputs = self._inputs(x, self.steps["inference"][1])
            x.set_candidates(inputs, settings.candidates, settings.nms_thresh)
        for form in ("as it is", "channels last"):
            for precision in self.precisions:
                yield from self._steps(contestants, form, precision, settings)
            for x in contestants:
                use_channels_last(x.model)
        for x in contestants[:COMPILED_DETECTORS]:
            for precision in COMPILED_PRECISIONS:
                if precision in self.precisions:
                    compile_network(x.model)
                    yield from self._steps([x], "compiled", precision, settings)

    def _steps(self, contestants, form: str, precision: torch.dtype, settings) -> Iterator[Record]:
        for step, (make, case) in self.steps.items():
            suite = f"{step}, {str(precision).removeprefix('torch.')}, {form}"
            todo = {x.name: make(x, self._inputs(x, case), precision) for x in contestants}
            todo = {name: work for name, work in todo.items() if self._works(name, work, suite)}
            if not todo:
                continue
            times = time_in_turns(todo, settings.device, repeats=settings.repeats)
            for name, work in todo.items():
                yield Record(suite, name, case, times[name], peak_memory(work, settings.device))

    @staticmethod
    def _works(name: str, work: Work, suite: str) -> bool:
        """Say whether a step can be measured: FCOS's losses refuse the numbers that random weights
        give in float16, for instance."""
        try:
            for _ in range(3):
                work.run(Laps(torch.device("cpu")), *work.prepare())
        except (AssertionError, RuntimeError) as error:
            print(f"{name}, {suite}: left out, as it fails: {error}")
            return False
        return True

    @staticmethod
    def _inputs(contestant: Contestant, case: Case) -> list[dict]:
        # In the processor's memory, as a loader gives them: how they get to a GPU is a part of it.
        return random_inputs(case, contestant.model.num_classes, "cpu")
