"""Times and memory of the detectors in every precision and form, see :mod:`benchmark.variants`."""

import torch

from benchmark.main import contestants_of, parser
from benchmark.report import variants
from benchmark.results import Results
from benchmark.suites import Settings as Measurement
from benchmark.variants import VariantsSuite

from .settings import Settings

# The first ones are compiled, too.
DETECTORS = ("ScopeNet", "tuned FCOS", "FCOS", "RetinaNet", "tuned RetinaNet")


def run(settings: Settings) -> None:
    """Measure; ``benchmark.json`` and ``timing.md`` have what is done so far."""
    args = parser().parse_args(["--device", settings.device, "--detectors", *DETECTORS])
    contestants, results = contestants_of(args), Results({}, [], [])
    precisions = [getattr(torch, x) for x in settings.precisions]
    suite = VariantsSuite(settings.size, precisions)
    measurement = Measurement(torch.device(settings.device), repeats=settings.repeats)
    for record in suite.run(contestants, measurement):
        results.add(record)
        results.save(settings.output / "benchmark.json")
        (settings.output / "timing.md").write_text(markdown(results, settings.size))


def markdown(results: Results, size: tuple[int, int]) -> str:
    """Make the tables of what was measured."""
    height, width = size
    parts = []
    for step, what in (("inference", "one image"), ("training", "two images, 7 boxes each")):
        table = variants(results.table(), step)
        text = table.to_markdown(index=False, disable_numparse=True)
        parts.append(f"**{step.capitalize()}**, {what} of {height}×{width} px\n\n{text}\n")
    return "\n".join(parts)
