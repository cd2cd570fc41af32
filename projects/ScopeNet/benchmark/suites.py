"""The comparisons: what is measured of which detectors, on which batches."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from . import works
from .contestants import Contestant
from .measure import Work, peak_memory, physical_memory, time_in_turns
from .workload import Case, random_inputs

LARGE, SMALL = (800, 1344), (320, 320)  # px
BOXES = (7, 50, 200, 1000)
BOXES_OF_CURVE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
# Height and width in px, 0.1 to 4 megapixels.
SIZES_OF_CURVE = ((288, 384), (544, 736), (992, 1312), (1728, 2304))


@dataclass
class Record:
    """What was measured of one detector on one batch."""

    suite: str
    detector: str
    case: Case
    seconds: list[dict[str, float]]  # by lap, one for each repeat
    peak_bytes: int


@dataclass
class Settings:
    device: torch.device
    precision: torch.dtype = torch.float32
    repeats: int = 5
    candidates: float = 0.001  # share of (location or anchor, class) pairs above the threshold
    nms_thresh: float = 0.6
    memory_limit: float = 0.0  # bytes; 0 for 60 % of the device's

    def __post_init__(self):
        self.memory_limit = self.memory_limit or 0.6 * physical_memory(self.device)


def expected_peak(before: Sequence[tuple[int, int]], case: Case) -> float:
    """Extrapolate bytes along a line from the last two measurements of (boxes, bytes)."""
    if not before:
        return 0.0
    boxes, peak = before[-1]
    other_boxes, other_peak = before[-2] if len(before) > 1 else (0, peak)
    slope = max(0.0, (peak - other_peak) / max(1, boxes - other_boxes))
    return peak + slope * max(0, case.boxes - boxes)


@dataclass
class Suite:
    """A comparison, runnable case by case."""

    name: str
    make: Callable[[Contestant, list[dict]], Work]
    cases: Sequence[Case]
    uses_candidates: bool = False
    bounds: dict[str, Callable[[Contestant, list[dict], Work], Work]] = field(default_factory=dict)
    bounded_cases: Sequence[Case] = ()

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time the detectors in turns, then the peak memory of each.

        A detector whose memory, if it grew with the boxes as it did before, would exceed
        ``memory_limit`` takes no part.
        """
        peaks: dict[str, list[tuple[int, int]]] = defaultdict(list)  # (boxes, bytes) of detectors
        for case in self.cases:
            taking_part = [
                x for x in contestants if expected_peak(peaks[x.name], case) < settings.memory_limit
            ]
            todo = self._works(taking_part, case, settings)
            if case in self.bounded_cases:
                todo |= self._bounds(taking_part, todo, case)
            times = time_in_turns(todo, settings.device, repeats=settings.repeats)
            for name, work in todo.items():
                peak = peak_memory(work, settings.device)
                peaks[name].append((case.boxes, peak))
                yield Record(self.name, name, case, times[name], peak)

    def _works(self, contestants, case: Case, settings: Settings) -> dict[str, Work]:
        works_of = {}
        for x in contestants:
            inputs = random_inputs(case, x.model.num_classes, settings.device.type)
            if self.uses_candidates:
                x.set_candidates(inputs, settings.candidates, settings.nms_thresh)
            works_of[x.name] = self.make(x, inputs)
        return works_of

    def _bounds(self, contestants, works_of: dict[str, Work], case: Case) -> dict[str, Work]:
        return {
            f"{x.name}: {bound}": make(
                x, random_inputs(case, x.model.num_classes, x.model.device.type), works_of[x.name]
            )
            for x in contestants
            for bound, make in self.bounds.items()
        }


def all_suites(settings: Settings, boxes: Sequence[int] = BOXES) -> dict[str, Suite]:
    """Return the suites by name; ``boxes`` are the numbers of boxes per image in tables."""
    precision = settings.precision

    def network(contestant, inputs, _):
        return works.network(contestant, inputs, precision)

    def convolutions(contestant, inputs, work):
        return works.convolutions(work, settings.device)

    labelled = [Case(2, *LARGE, count) for count in boxes]
    inference = partial(works.inference, precision=precision)
    training = partial(works.training_step, precision=precision)
    areas = [Case(1, *size, boxes[0]) for size in SIZES_OF_CURVE]
    batches = [Case(1, *LARGE, 0), Case(8, *SMALL, 0), Case(2, *LARGE, 0)]
    few, many = boxes[0], boxes[1:]
    training_batches = [case._replace(boxes=few) for case in batches]
    training_batches += [batches[-1]._replace(boxes=count) for count in many]
    suites = [
        Suite("labels", works.labels, labelled),
        Suite("losses", works.losses, labelled),
        Suite("detections", works.detections, [Case(2, *LARGE, 0)], uses_candidates=True),
        Suite(
            "inference",
            inference,
            batches,
            uses_candidates=True,
            bounds={"network": network, "convolutions": convolutions},
            bounded_cases=batches,
        ),
        Suite(
            "training",
            training,
            training_batches,
            bounds={"convolutions": convolutions},
            bounded_cases=training_batches[:1],  # the tensors of a step are held: a lot of memory
        ),
        Suite("boxes", works.losses, [Case(1, *LARGE, count) for count in BOXES_OF_CURVE]),
        Suite("inference by area", inference, areas, uses_candidates=True),
        Suite("training by area", training, areas),
    ]
    return {suite.name: suite for suite in suites}
