"""What is tried, and how large."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The sizes are those of a GPU, or small ones on a CPU."""

    output: Path  # folder of the page and of all that it names
    device: str  # "cuda", or "cpu" to see that the program works
    precisions: tuple[str, ...]
    iterations: int  # of each training
    images: int  # to train on
    image_side: int  # px, in training
    size: tuple[int, int]  # px, height and width of profiled and timed steps
    repeats: int  # of each timing

    @property
    def work(self) -> Path:
        """The folder of what is not kept."""
        return self.output / "work"

    @classmethod
    def of(cls, device: str, output: Path) -> "Settings":
        """Choose the sizes by the device."""
        precisions = ("float32", "float16", "bfloat16")
        if device == "cpu":  # where float16 is none of the trainer's precisions
            return cls(output, device, precisions[::2], 4, 16, 96, (96, 128), 1)
        return cls(output, device, precisions, 200, 400, 160, (800, 1344), 3)
