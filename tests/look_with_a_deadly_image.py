"""A program for a test: ``scopenet predict`` of the arguments after the first, with workers that
die, as if they had no memory left, when they look at an image whose name ends with that one."""

import os
import sys

from scopenet import cli
from scopenet.predict import cluster

NAME = sys.argv[1]


class Mortal(cluster.Worker):
    """Dies of some image."""

    def look_at(self, number, paths, image_ids):
        if self.detector is None:
            self.detector = cluster._load(self.args, self.started_in)
            look = self.detector.stream

            def stream(images):
                yield from look(os._exit(9) if x.endswith(NAME) else x for x in images)

            self.detector.stream = stream
        return super().look_at(number, paths, image_ids)


if __name__ == "__main__":
    cluster.Worker = Mortal
    sys.exit(cli.run("predict", sys.argv[2:]))
