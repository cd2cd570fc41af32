"""`scopenet predict --format`: sources, rows, shards that are whole, and going on."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from builders import write_training
from miniature import mini_datasets, one_thread, write_photos
from object_store import object_store
from pyarrow import parquet, table
from pycocotools.coco import COCO
from zoos import refusal

from scopenet import cli
from scopenet.predict.dataset import DATASET, shared_folder
from scopenet.predict.shards import Numbered, missing, num_whole, whole_shards, write_shards
from scopenet.predict.sources import Source, find_sources, fingerprint
from scopenet.storage import LocalFolder, open_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained detector, and twelve photographs in `photos`, of which number 5 is damaged."""
    folder = tmp_path_factory.mktemp("many")
    with mini_datasets(folder), one_thread():
        write_training(folder)
        write_photos(folder / "photos", 12, damaged=5)
        yield folder


def predict(folder: Path, output: Path, *arguments: object) -> None:
    given = ["--model", folder, "--input", folder / "photos", "--output", output]
    given += ["--confidence-threshold", "0.1", "--format", "jsonl", "--shard-size", "5", *arguments]
    cli.run("predict", list(map(str, given)))


def rows_of(output: Path) -> list[dict]:
    shards = sorted(output.glob("detections-*"))
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


# --- sources --------------------------------------------------------------------------------------


def test_lists_tars_and_jsons_name_the_same_images(folder, tmp_path):
    photos = sorted((folder / "photos").iterdir())
    (tmp_path / "list.txt").write_text("".join(f"{x}\n\n" for x in photos))
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for x in photos:
            archive.add(x, x.name)
        archive.addfile(tarfile.TarInfo("000.json"))  # webdataset has labels beside
    images = [{"id": 7 * i, "file_name": x.name} for i, x in enumerate(photos)]
    (tmp_path / "photos.json").write_text(json.dumps({"images": images}))
    names = [str(tmp_path / x) for x in ("list.txt", "photos.tar", "photos.json")]
    columns = {"path": list(map(str, photos)), "image_id": [7 * i for i in range(12)]}
    parquet.write_table(table(columns), tmp_path / "list.parquet")
    names.append(str(tmp_path / "list.parquet"))
    listed, archived, coco, tabled = find_sources(names, folder / "photos")
    assert [x.path for x in listed] == [x.path for x in coco] == list(map(str, photos))
    assert [x.image_id for x in coco] == [7 * i for i in range(12)]
    assert list(tabled) == list(coco)
    assert [x.path for x in archived] == [f"{tmp_path}/photos.tar/{x.name}" for x in photos]
    assert [x.image for x in archived] == [x.read_bytes() for x in photos]
    assert len({fingerprint([x]) for x in (listed, archived)}) == 2
    assert fingerprint([listed]) == fingerprint([coco])


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("empty.txt", b"\n\n", "names no image"),
        ("bad.txt", b"\xff\xfe", "cannot be read as a list of paths"),
        ("bad.json", b"{}", "cannot be read as a COCO json"),
        ("bad.parquet", b"{}", "cannot be read as a table with the column path"),
        ("absent.tar", None, "does not exist"),
    ],
)
def test_sources_that_give_nothing(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message = refusal(find_sources, [str(tmp_path / name)], tmp_path)
    assert said in message and name in message


def test_addresses_without_what_reads_them(tmp_path, monkeypatch):
    """That is said at once, and not of every image of a list."""
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    said = 'pyarrow is missing here: pip install "scopenet[parquet]" brings it, as does pip install'
    (tmp_path / "list.txt").write_text("/a.jpg\nfile:///b.jpg\n")
    find_sources([str(tmp_path / "list.txt")])
    (tmp_path / "list.txt").write_text("/a.jpg\ns3://bucket/b.jpg\n")
    assert refusal(find_sources, [str(tmp_path / "list.txt")]) == f"{said} pyarrow."


def test_without_what_writes_parquet_no_run_is_begun(folder, tmp_path, monkeypatch):
    """Once the package is there, the same command works."""
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(SystemExit, match=r"pyarrow is missing here: .*scopenet\[parquet\]"):
            predict(folder, tmp_path / "a", "--format", "parquet")
    assert not (tmp_path / "a").exists()
    predict(folder, tmp_path / "a", "--format", "parquet")
    assert parquet.read_table(tmp_path / "a").num_rows == 12


def test_a_json_needs_the_folder_of_its_images(tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    assert "--images" in refusal(find_sources, [str(tmp_path / "a.json")])


def test_a_cut_off_tar_is_one_sentence(folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder / "photos/000.png", "000.png")
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:700])
    (source,) = find_sources([str(tmp_path / "a.tar")])
    assert "cannot be read as a tar file" in refusal(list, source)


@pytest.fixture(scope="module")
def bucket(folder):
    """The photographs in an object store, by the query of its addresses."""
    with object_store("bucket") as query:
        photos = open_folder(f"s3://bucket/photos{query}")
        for x in [*(folder / "photos").iterdir(), folder / "config.yaml"]:
            with photos.writing(x.name) as path:
                path.write_bytes(x.read_bytes())
        yield query


def test_images_of_an_object_store(folder, bucket, tmp_path):
    """From and to one, and named by a folder or a list, they give the same rows."""
    predict(folder, tmp_path / "local")
    expected = [x | {"path": Path(x["path"]).name} for x in rows_of(tmp_path / "local")]
    (source,) = find_sources([f"s3://bucket/photos{bucket}"])
    assert source.paths[5] == f"s3://bucket/photos/005.png{bucket}" and len(source.paths) == 12
    with open_folder(f"s3://bucket/lists{bucket}").writing("list.txt") as path:
        path.write_text("\n".join(source.paths))
    for name in ("photos", "lists/list.txt"):
        output = f"s3://bucket/{name}-rows{bucket}"
        arguments = [
            "--model",
            folder,
            "--input",
            f"s3://bucket/{name}{bucket}",
            "--output",
            output,
        ]
        arguments += ["--confidence-threshold", "0.1", "--format", "jsonl", "--shard-size", "5"]
        cli.run("predict", list(map(str, arguments)))
        written = open_folder(output)
        shards = sorted(x for x in written.names() if x.startswith("detections"))
        rows = [json.loads(x) for shard in shards for x in written.read(shard).splitlines()]
        assert [x | {"path": x["path"][19:26]} for x in rows] == expected
        with pytest.raises(SystemExit, match="go on with it by --resume"):
            cli.run("predict", list(map(str, arguments)))


@pytest.mark.parametrize(
    "name, said",
    [
        ("s3://bucket/absent", "names no image"),
        ("s3://nowhere/photos", "names no image"),
        ("s3://bucket/absent.txt", "cannot be read as a list of paths"),
        ("ftp://bucket/photos", "no address that can be opened"),
    ],
)
def test_addresses_of_nothing(bucket, name, said):
    assert said in refusal(find_sources, [name + bucket])


# --- shards ---------------------------------------------------------------------------------------


def test_only_missing_shards_are_done(tmp_path):
    for name in ("detections-000001.jsonl", "_failures-000002.jsonl", ".unfinished-detections-0"):
        (tmp_path / name).touch()
    assert whole_shards(LocalFolder(tmp_path)) == {1}
    items = list(missing("abcdefgh", {1}, 3))
    assert items == [Numbered(n, x) for n, x in zip((0, 0, 0, 2, 2), "abcgh", strict=True)]
    assert num_whole(8, {1, 2}, 3) == 5  # three and, of the last shard, two
    assert num_whole(6, {1, 2}, 3) == 3


def test_an_interrupted_shard_is_not_there(tmp_path):
    def rows():
        yield from (Numbered(i // 2, {"path": str(i), "error": None}) for i in range(5))
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        list(write_shards(rows(), LocalFolder(tmp_path), "jsonl"))
    assert [x.name for x in sorted(tmp_path.iterdir())] == [
        "detections-000000.jsonl", "detections-000001.jsonl"]  # fmt: skip
    assert rows_of(tmp_path) == [{"path": str(i), "error": None} for i in range(4)]


def test_a_shard_waits_for_its_failures(tmp_path):
    """A shard that is there is not looked at again, so its failures have to be there before."""

    class Full(LocalFolder):
        def writing(self, name):
            if name.startswith("_failures"):
                raise OSError(28, "No space left on device")
            return super().writing(name)

    with pytest.raises(OSError):
        list(write_shards([Numbered(0, {"error": "it is empty"})], Full(tmp_path), "jsonl"))
    assert list(tmp_path.iterdir()) == []


# --- the command ----------------------------------------------------------------------------------


def test_rows_hold_what_a_json_holds(folder, tmp_path, capsys):
    predict(folder, tmp_path / "many")
    assert "12 images looked at, 1 of them failed (see _failures.jsonl)" in capsys.readouterr().out
    rows = rows_of(tmp_path / "many")
    assert [Path(x["path"]).name for x in rows] == [f"{i:03d}.png" for i in range(12)]
    assert rows[5]["error"].startswith("it cannot be read") and rows[5]["detections"] == []
    assert json.loads((tmp_path / "many/_failures.jsonl").read_text()) == rows[5]
    assert (rows[0]["width"], rows[0]["height"]) == (96, 64)
    assert (rows[1]["width"], rows[1]["height"]) == (64, 96)

    single = ["--model", str(folder), "--input", str(folder / "photos"), "--json"]
    single += [str(tmp_path / "single.json"), "--confidence-threshold", "0.1"]
    with pytest.raises(SystemExit, match="1 of 12 images could not be read"):
        cli.run("predict", single)
    expected = json.loads((tmp_path / "single.json").read_text())
    found = [(x["path"], y) for x in rows for y in x["detections"]]
    assert len(found) == len(expected) > 50
    for (path, detection), other in zip(found, expected, strict=True):
        assert {"image_id": other["image_id"], "file_name": path, **detection} == other


def test_parquet_holds_the_same(folder, tmp_path):
    predict(folder, tmp_path / "lines")
    predict(folder, tmp_path / "table", "--format", "parquet")
    rows = parquet.read_table(tmp_path / "table").to_pylist()
    for row, expected in zip(rows, rows_of(tmp_path / "lines"), strict=True):
        assert {**row, "detections": 0} == {**expected, "detections": 0}
        for x, y in zip(row["detections"], expected["detections"], strict=True):
            assert x["bbox"] == pytest.approx(y["bbox"], rel=1e-6)
            assert x["border_stds"] is None and "border_stds" not in y


def test_going_on_gives_what_one_run_gives(folder, tmp_path, capsys):
    predict(folder, tmp_path)
    whole = rows_of(tmp_path)
    (tmp_path / "detections-000001.jsonl").unlink()
    (tmp_path / ".unfinished-detections-000001.jsonl").write_text('{"path": "half a')
    capsys.readouterr()
    predict(folder, tmp_path, "--resume")
    assert "5 images looked at" in capsys.readouterr().out
    assert rows_of(tmp_path) == whole
    there = sorted(x.name for x in tmp_path.iterdir() if not x.name.startswith("detections"))
    assert there == ["_failures-000001.jsonl", "_failures.jsonl", "_run.json"]
    assert len(list(tmp_path.iterdir())) == 6


# --- one COCO json --------------------------------------------------------------------------------


def test_a_coco_json_holds_what_the_rows_hold(folder, tmp_path, capsys):
    predict(folder, tmp_path, "--format", "coco")
    assert f"{DATASET} start from {folder}/photos." in capsys.readouterr().out
    coco, rows = COCO(tmp_path / DATASET), rows_of(tmp_path)
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}, {"id": 3, "name": "blue"}]
    assert coco.dataset["categories"] == categories
    assert coco.getImgIds() == [1, 2, 3, 4, 5, *range(7, 13)]  # without number 5, which is damaged
    assert coco.imgs[7] == {"id": 7, "file_name": "006.png", "width": 96, "height": 64}
    found = [(i, x) for i, row in enumerate(rows, start=1) for x in row["detections"]]
    assert [*coco.anns] == list(range(1, len(found) + 1)) and len(found) > 50
    for annotation, (image_id, detection) in zip(coco.anns.values(), found, strict=True):
        width, height = detection["bbox"][2:]
        assert annotation["area"] == pytest.approx(width * height, abs=1e-6)
        assert annotation["image_id"] == image_id
        assert (annotation["iscrowd"], annotation["segmentation"]) == (0, [])
        given = ("category_id", "bbox", "score", "loc_score", "border_scores")
        assert all(annotation[x] == detection[x] for x in given)


def test_nothing_is_wrong_with_a_coco_json(folder, tmp_path, capsys):
    sound = [folder / f"photos/{i:03d}.png" for i in (0, 1, 2)]
    predict(folder, tmp_path, "--format", "coco", "--input", *sound)
    check = ["--json", tmp_path / DATASET, "--images", folder / "photos"]
    assert cli.run("check", list(map(str, [*check, "--output", tmp_path / "check"]))) == 0
    assert "Nothing is wrong." in capsys.readouterr().out


def test_a_coco_json_of_a_json_has_its_names_and_ids(folder, tmp_path):
    """The names start from the folder that they start from there."""
    names = {40: "photos/003.png", 17: "photos/001.png"}
    images = [{"id": i, "file_name": name} for i, name in names.items()]
    (tmp_path / "some.json").write_text(json.dumps({"images": images}))
    given = ["--input", tmp_path / "some.json", "--images", folder]
    predict(folder, tmp_path / "out", "--format", "coco", *given)
    coco = COCO(tmp_path / "out" / DATASET)
    assert {i: x["file_name"] for i, x in coco.imgs.items()} == names
    assert {x["image_id"] for x in coco.anns.values()} == {40, 17}
    # Given twice, no id is one of its own.
    predict(folder, tmp_path / "twice", "--format", "coco", *given, "--input", given[1], given[1])
    assert COCO(tmp_path / "twice" / DATASET).getImgIds() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "paths, shared",
    [
        ([["a/b/1.png", "a/b/c/2.png"], ["a/bc/3.png"]], "a"),
        ([["a/b/1.png"]], "a/b"),
        ([["1.png"], ["a/2.png"]], ""),
        ([["/1.png", "/a/2.png"]], ""),
        ([["s3://x/a/1.png?region=b/c"]], "s3://x/a"),
    ],
)
def test_the_folder_that_all_images_share(paths, shared):
    assert shared_folder([Source("given", x) for x in paths]) == shared


def test_a_tar_file_is_the_folder_of_its_images():
    tar = Source("a/b.tar", None)
    assert shared_folder([tar]) == "a/b.tar"
    assert shared_folder([tar, Source("given", ["a/1.png"])]) == "a"


def test_going_on_gives_the_same_coco_json(folder, tmp_path):
    predict(folder, tmp_path, "--format", "coco")
    whole = (tmp_path / DATASET).read_text()
    (tmp_path / "detections-000001.jsonl").unlink()
    (tmp_path / DATASET).unlink()
    predict(folder, tmp_path, "--format", "coco", "--resume")
    assert (tmp_path / DATASET).read_text() == whole


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "go on with it by --resume"),
        (["--resume", "--shard-size", "4"], "another shard_size (5, not 4)"),
        (["--resume", "--confidence-threshold", "0.2"], "another confidence_threshold"),
        (["--resume", "--format", "parquet"], "another format"),
        (["--resume", "--weights", "WEIGHTS"], "another weights"),
        (["--resume", "MODEL.SCOPENET.NMS_THRESH_TEST", "0.5"], "another overrides"),
    ],
)
def test_another_run_is_not_mixed_in(folder, tmp_path, arguments, said):
    predict(folder, tmp_path)
    before = rows_of(tmp_path)
    arguments = [str(x).replace("WEIGHTS", str(folder / "model_final.pth")) for x in arguments]
    with pytest.raises(SystemExit, match=said.replace("(", r"\(").replace(")", r"\)")):
        predict(folder, tmp_path, *arguments)
    assert rows_of(tmp_path) == before


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--shard-size", "0"], "--shard-size must be at least 1"),
        (["--batch-size", "0"], "batch size must be at least 1"),
        (["--json", "x.json"], "--format goes with"),
    ],
)
def test_flags_that_do_not_fit(folder, tmp_path, arguments, said):
    with pytest.raises(SystemExit, match=said):
        predict(folder, tmp_path / "out", *arguments)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_loses_the_open_shard_at_most(folder, tmp_path, signal_number):
    arguments = ["predict", "--model", folder, "--input", folder / "photos", "--output", tmp_path]
    arguments += ["--format", "jsonl", "--shard-size", "1", "--confidence-threshold", "0.1"]
    command = [sys.executable, "-m", "scopenet", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("detections-*"))) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal_number)
    process.wait()
    assert all(json.loads(x.read_text()) for x in tmp_path.glob("detections-*"))
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    assert [Path(x["path"]).name for x in rows_of(tmp_path)] == [f"{i:03d}.png" for i in range(12)]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["jsonl", "parquet", "coco"])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, file_format):
    taken = []
    for count in (1000, 20_000):
        (tmp_path / str(count)).mkdir()
        command = [sys.executable, ROOT / "tests/look_at_many_images.py", tmp_path / str(count)]
        done = subprocess.run(
            [*command, str(count), file_format], check=True, capture_output=True, text=True
        )
        taken.append(int(done.stdout.split()[-1]))
    few, many = taken
    assert many < 1.05 * few
