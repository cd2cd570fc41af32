"""Images are found by their suffix and read as in training."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from scopenet.data.unusable import unreadable_image
from scopenet.errors import ConfigError, ImageError
from scopenet.images import IMAGE_SUFFIXES, find_images, images_in, read_image

EXIF_ORIENTATION = 0x0112  # the tag

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
LOSSLESS = (".png", ".webp", ".bmp", ".tiff")


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(PIXELS).convert(mode)


def transparent_palette() -> Image.Image:
    image = picture("RGB").quantize(16)
    image.info["transparency"] = 3
    return image


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = orientation
    return tags


def assert_read_as_in_training(path: Path) -> np.ndarray:
    image, expected = read_image(path), detectron2_read_image(str(path), "BGR")
    assert image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, expected)
    return image


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_suffix(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    picture().save(path, **{"lossless": True} if suffix == ".webp" else {})
    image = assert_read_as_in_training(path)
    if suffix in LOSSLESS:
        np.testing.assert_array_equal(image, PIXELS[:, :, 2::-1])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    picture().save(path, exif=exif(orientation))
    image = assert_read_as_in_training(path)
    # Pillow turns a TIFF by itself, Detectron2 then once more.
    assert (image.shape == (7, 5, 3)) == (orientation > 4 and suffix != ".tif")


def test_exif_data_that_are_none(tmp_path):
    picture().save(tmp_path / "a.png", exif=b"Exif\0\0no tags at all")
    image = assert_read_as_in_training(tmp_path / "a.png")
    np.testing.assert_array_equal(image, PIXELS[:, :, 2::-1])


@pytest.mark.parametrize(
    "name, image",
    [
        ("grey.png", picture("L")),
        ("grey.jpg", picture("L")),
        ("grey_alpha.png", picture("LA")),
        ("two_colours.png", picture("1")),
        ("palette.png", picture("RGB").quantize(16)),
        ("palette_alpha.png", transparent_palette()),
        ("cmyk.jpg", picture("CMYK")),
        ("cmyk.tif", picture("CMYK")),
        ("alpha.png", picture("RGBA")),
        ("alpha.webp", picture("RGBA")),
    ],
)
def test_mode(tmp_path, name, image):
    image.save(tmp_path / name)
    assert_read_as_in_training(tmp_path / name)


def test_how_images_are_read(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5, :, 0] = 255  # a red stripe on top
    picture = Image.fromarray(pixels)
    for mode, suffix in (("RGB", "png"), ("RGBA", "png"), ("CMYK", "tif"), ("P", "png")):
        picture.convert(mode).save(tmp_path / f"{mode}.{suffix}")
        image = read_image(str(tmp_path / f"{mode}.{suffix}"))
        assert image.shape == (20, 30, 3) and image[0, 0].tolist() == [0, 0, 255]
    picture.convert("L").save(tmp_path / "L.png")
    assert read_image(str(tmp_path / "L.png"))[0, 0].tolist() == [76] * 3
    # To be turned by 90 degrees clockwise: the stripe is on the right.
    picture.save(tmp_path / "turned.png", exif=exif(6))
    turned = read_image(str(tmp_path / "turned.png"))
    assert turned.shape == (30, 20, 3) and turned[15, 19].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused(tmp_path, mode):
    Image.new(mode, (4, 3)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="a.tif has more than 8 bits per channel"):
        read_image(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png")


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ImageError, match=r"a.png cannot be read \(no known image format\)\.$"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"b.png cannot be read \(No such file or directory\)\.$"):
        read_image(tmp_path / "b.png")


def test_a_png_of_which_only_the_beginning_can_be_decoded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8) // 64
    Image.fromarray(pixels).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.png").write_bytes(content)
    # Detectron2 takes the beginning for the image.
    assert not np.array_equal(detectron2_read_image(str(tmp_path / "x.png"), "RGB"), pixels)
    with pytest.raises(ImageError, match=r"x\.png cannot be read"):
        read_image(str(tmp_path / "x.png"))


# Finding them


@pytest.fixture
def folder(tmp_path) -> Path:
    """Empty files: nothing is read here."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "c.txt", "d.tiff", "deep/e.webp", "deep/er/0.bmp", "f.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [x.relative_to(folder).as_posix() for x in paths]


def test_images_of_a_folder_in_order(folder):
    assert names(images_in(folder), folder) == ["a.png", "b.JPG", "d.tiff"]
    everything = ["a.png", "b.JPG", "d.tiff", "deep/e.webp", "deep/er/0.bmp"]
    assert names(images_in(folder, recursive=True), folder) == everything


def test_folders_without_images(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty holds no .png, .jpg, .*.tif or .tiff files"):
        images_in(folder / "empty")
    with pytest.raises(ConfigError, match="none does not exist"):
        images_in(folder / "none")


def test_files_folders_and_patterns(folder):
    pattern = str(folder / "**" / "*.[wb]*")
    found = find_images([str(folder / "d.tiff"), str(folder), pattern])
    # Each once, in the order in which they were named first.
    assert names(found, folder) == ["d.tiff", "a.png", "b.JPG", "deep/e.webp", "deep/er/0.bmp"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("c.txt", "c.txt is no image by its suffix, none of .png"),
        ("f.mp4", "f.mp4 is a video; give it with --video-input"),
        ("x*.png", "does not exist, and matches nothing as a pattern"),
    ],
)
def test_inputs_that_are_no_images(folder, name, message):
    with pytest.raises(ConfigError, match=message):
        find_images([str(folder / name)])


@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + bytes(28)])
def test_postscript_is_not_run(tmp_path, monkeypatch, start):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("Ghostscript"))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    path = tmp_path / "a.png"
    path.write_bytes(start + b"%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match="a.png cannot be read \\(PostScript, which is a program"):
        read_image(path)
    assert unreadable_image({"file_name": str(path)}) == "PostScript, which is a program"
