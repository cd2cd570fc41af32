"""A program to measure with: give so many paths to workers of Ray that only pretend to detect, into
a folder, and print the most memory that this process took, MiB."""

import resource
import sys
from pathlib import Path

from detectron2.structures import Boxes, Instances
from torch import zeros

from scopenet import cli
from scopenet.detector import Detector
from scopenet.predict import cluster


class Pretender(Detector):
    """Finds nothing in whatever it is given."""

    def stream(self, images):
        nothing = {"pred_boxes": Boxes(zeros(0, 4)), "scores": zeros(0), "pred_classes": zeros(0)}
        for _ in images:
            yield {"instances": Instances((480, 640), **nothing)}


class PretendingWorker(cluster.Worker):
    def look_at(self, number, paths, image_ids):
        self.detector = Pretender(lambda image: {}, "pretender", ["thing"])
        return super().look_at(number, paths, image_ids)


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    names = folder / "images.txt"
    names.write_text("\n".join(f"/photographs/{i:09d}.jpg" for i in range(count)))
    cluster.Worker, cluster._check = PretendingWorker, lambda args: None
    flags = ["--model", "", "--input", str(names), "--output", str(folder / "rows")]
    cli.run("predict", [*flags, "--format", "jsonl", "--engine", "ray", "--worker-cpus", "1"])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
