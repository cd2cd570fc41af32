"""Images: what cameras and programs write, and what Pillow would take for an image besides."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import read_image as read_by_detectron2
from PIL import Image

from hostile.bytewise import LENGTHS, damaged
from hostile.case import Case
from scopenet.data.unusable import unreadable_image
from scopenet.images import read_image

# No two of them make more than some 20 million pixels, but those of which Pillow wants no image.
SIZES = (0, 1, 2, 17, 23, 24, 25, 30, 300, 60_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Readers of Pillow that run a program, open other files, or unpack what is not an image.
OTHERS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n",
    b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 60) + bytes(18) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"P6\n24 16\n255\n" + bytes(24 * 16 * 3),
    b"P6\n60000 60000\n255\n" + bytes(99),
    b"#define x_width 24\n#define x_height 16\nstatic char x_bits[] = {\n0x00\n};\n",
    b'/* XPM */\nstatic char * x[] = {\n"2 1 1 1",\n". c #000000",\n".."\n};\n',
    b"\x01\xda\x01\x01\x00\x03\x00\x18\x00\x10\x00\x03" + bytes(500),
    b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 16, 24, 8, 3) + bytes(999),
    b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX  =                    8" + b" " * 50,
    b"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x18\x00"
    + struct.pack("<II", 99, 22)
    + bytes(99),
    b"icns" + struct.pack(">I", 64) + b"ic07" + struct.pack(">I", 56) + bytes(48),
    b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(64),
    b"<svg xmlns='http://www.w3.org/2000/svg' width='24' height='16'/>",
    b"\xd7\xcd\xc6\x9a" + bytes(99),
    b"DDS " + struct.pack("<7I", 124, 4111, 16, 24, 0, 0, 0) + bytes(200),
    b"qoif" + struct.pack(">IIBB", 24, 16, 3, 0) + bytes(99),
    b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF",
)


def pixels() -> np.ndarray:
    """(16, 24, 3) RGB, smooth enough for JPEG."""
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([x * 10, y * 15, (x + y) * 6], axis=2).astype(np.uint8)


def encoded(kind: str, **options) -> bytes:
    image, buffer = Image.fromarray(pixels()), io.BytesIO()
    mode = options.pop("mode", "RGB")
    image.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


class Picture:
    suffix = ".png"
    packages = frozenset({"PIL", "numpy", "encodings", "iopath", "xml", "olefile", "defusedxml"})
    reads = ()

    def __init__(self, folder: Path):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "x"
        self.sound = [encoded(x) for x in FORMATS]
        self.sound += [encoded("PNG", mode=x) for x in ("L", "P", "RGBA", "1", "LA")]
        self.sound += [encoded("JPEG", mode=x) for x in ("L", "CMYK")]
        self.sound += [encoded("JPEG", exif=exif), encoded("PNG", exif=exif)]
        self.sound += [encoded("JPEG", progressive=True), encoded("WEBP", lossless=True, exif=exif)]
        self.sound += [encoded("TIFF", compression=x) for x in ("tiff_lzw", "jpeg", "tiff_deflate")]
        self.sound += [encoded("PNG", compress_level=0)]
        self.png, self.jpeg, self.exif_jpeg = self.sound[0], self.sound[1], self.sound[13]
        Image.init()  # loads the readers of all formats, which it does for any file that is none
        self.sound_file = folder / "sound.png"
        self.sound_file.write_bytes(self.png)

    def make(self, rng: random.Random) -> Case:
        suffix = rng.choice(SUFFIXES)
        kind = rng.randrange(12)
        if kind <= 1:
            return Case("png chunk", self._chunks(rng), suffix)
        if kind == 2:
            return Case("png size", self._png_size(rng), suffix)
        if kind <= 4:
            return Case("jpeg segment", self._segments(rng), suffix)
        if kind == 5:
            return Case("exif", self._exif(rng), suffix)
        if kind == 6:
            return Case("wrong suffix", rng.choice(self.sound), suffix)
        if kind == 7:
            other = rng.choice(OTHERS)
            return Case("another format", rng.choice((other, damaged(rng, other)[1])), suffix)
        what, content = damaged(rng, rng.choice(self.sound))
        return Case(what, content, suffix)

    def _chunks(self, rng: random.Random) -> bytes:
        chunks, i = [], 8
        while i < len(self.png):
            (size,) = struct.unpack_from(">I", self.png, i)
            chunks.append((self.png[i + 4 : i + 8], self.png[i + 8 : i + 8 + size]))
            i += size + 12
        k = rng.randrange(len(chunks))
        name, data = chunks[k]
        kind = rng.randrange(5)
        if kind == 0:
            del chunks[k]
        elif kind == 1:
            chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(chunks))
        elif kind == 2:
            chunks[k] = (name, damaged(rng, data or b"x")[1])
        elif kind == 3:
            bomb = zlib.compress(bytes(2**26))
            odd = [(b"tEXt", b"x"), (b"zTXt", b"x\0\0" + bomb), (b"iCCP", b"x\0\0" + bomb)]
            odd += [
                (b"eXIf", rng.randbytes(40)),
                (b"acTL", struct.pack(">II", 2**31, 0)),
                (b"PLTE", b"1"),
            ]
            odd += [
                (b"iTXt", b"x\0\1\0\0\0" + bomb),
                (b"tRNS", b""),
                (b"fcTL", bytes(26)),
                (b"IDAT", bomb),
            ]
            chunks.insert(rng.randrange(1, len(chunks)), rng.choice(odd))
        else:
            chunks[k] = (rng.choice((b"IDAT", b"IHDR", b"IEND", b"\0\0\0\0", b"abcd")), data)
        return png(chunks)

    def _png_size(self, rng: random.Random) -> bytes:
        """Another size, depth or colour type, with few or many bytes of pixels."""
        numbers = [rng.choice((24, *SIZES)), rng.choice((16, *SIZES))]
        forms = rng.choice((8, 8, 8, 1, 4, 16, 0, 7)), rng.choice((2, 2, 0, 3, 4, 6, 1))
        header = struct.pack(">IIBBBBB", *numbers, *forms, 0, 0, rng.choice((0, 0, 1, 2)))
        data = zlib.compress(bytes(rng.choice((0, 16 * 73, 2**20, 2**24))))
        return png([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")])

    def _segments(self, rng: random.Random) -> bytes:
        content = bytearray(self.exif_jpeg)
        starts = [
            i
            for i in range(len(content) - 9)
            if content[i] == 0xFF and 0xC0 <= content[i + 1] < 0xFF
        ]
        i = rng.choice(starts)
        kind = rng.randrange(4)
        if kind == 0:  # the marker
            content[i + 1] = rng.choice(
                (0xC0, 0xC2, 0xC4, 0xC9, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE)
            )
        elif kind == 1:  # its length
            content[i + 2 : i + 4] = struct.pack(">H", rng.choice(LENGTHS) % 2**16)
        elif kind == 2:  # the size of the image
            at = content.index(b"\xff\xc0") + 5
            height, width = (rng.choice((16, *SIZES)) % 2**16 for _ in range(2))
            content[at : at + 4] = struct.pack(">HH", height, width)
        else:
            content[i:i] = b"\xff\xe1" + struct.pack(">H", 2**16 - 1) + bytes(2**16 - 3)
        return bytes(content)

    def _exif(self, rng: random.Random) -> bytes:
        start = self.exif_jpeg.index(b"Exif\0\0") + 6
        (size,) = struct.unpack_from(">H", self.exif_jpeg, start - 8)
        end = start + size - 8
        data = damaged(rng, self.exif_jpeg[start:end])[1][: 2**16 - 20]
        length = struct.pack(">H", len(data) + 8)
        return self.exif_jpeg[: start - 8] + length + b"Exif\0\0" + data + self.exif_jpeg[end:]

    def load(self, path: Path) -> tuple[np.ndarray, str]:
        found = read_image(path)
        return found, unreadable_image({"file_name": str(path)})

    def check(self, case: Case, path: Path, value: tuple[np.ndarray, str]) -> None:
        """It has the size that it says, and is what Detectron2 reads, for which training asks."""
        found, problem = value
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
        with Image.open(path) as image:
            assert sorted(image.size) == sorted(found.shape[:2])
        assert not problem or "too narrow" in problem, problem
        again = read_by_detectron2(str(path), format="BGR")
        assert found.shape == again.shape
        # What libtiff leaves out of a damaged JPEG in a TIFF is not the same every time.
        assert case.content[:2] in (b"II", b"MM") or np.array_equal(found, again)
        if case.what == "wrong suffix" and case.content in (self.png, self.sound[3], self.sound[4]):
            assert np.array_equal(found[:, :, ::-1], pixels())


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """With right lengths and sums."""
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )
    return content
