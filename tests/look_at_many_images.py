"""A program for a test: look at so many images with a detector that only pretends, in rows of a
format, and print the most memory that it took, MiB."""

import argparse
import resource
import sys
from pathlib import Path

import torch
from detectron2.structures import Boxes, Instances

from scopenet.detector import Detector
from scopenet.predict.many import look_at_many


class Pretender(Detector):
    """Finds the same twenty objects in whatever it is given."""

    def stream(self, images):
        corners = torch.rand(20, 2) * 300
        found = Instances((480, 640), pred_boxes=Boxes(torch.cat([corners, corners + 50], 1)))
        found.pred_classes, found.scores = torch.zeros(20, dtype=torch.long), torch.rand(20)
        found.loc_scores, found.border_scores = torch.rand(20), torch.rand(20, 4)
        for _ in images:
            yield {"instances": found}


if __name__ == "__main__":
    folder, count, file_format = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    names = folder / "images.txt"
    names.write_text("\n".join(f"/photographs/{i:09d}.jpg" for i in range(count)))
    look_at_many(
        argparse.Namespace(
            input=[str(names)], images=None, output=folder / "rows", format=file_format,
            shard_size=1000, confidence_threshold=0.0, resume=False, model="", weights="", opts=[],
        ),
        Pretender(lambda image: {}, "pretender", ["thing"]),
    )  # fmt: skip
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
