"""Make one hostile file again and read it: ``cd tests/faults && PYTHONPATH=.:..:../..
python -m hostile "coco json" 123 FOLDER``."""

import sys
from pathlib import Path

from hostile import child
from hostile.watch import Watch, limit_memory

if __name__ == "__main__":
    name, number, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    kind = child.set_up(name, folder / "sound")
    case = child.make(kind, name, 0, number)
    path = child.write(case, kind, folder / "read")
    print(f"{case.what}: {path}", flush=True)
    limit_memory()
    print(*child.examine(kind, case, path, Watch()))
