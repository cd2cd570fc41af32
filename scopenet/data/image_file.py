"""What can be wrong with the file of an image."""

from detectron2.data.detection_utils import check_image_size, read_image
from PIL import Image, UnidentifiedImageError

# Images whose sides differ more may have nothing left of the shorter one when they are resized.
MAX_RATIO = 100
_PNG = b"\x89PNG\r\n\x1a\n"


def check_png(path: str) -> None:
    """
    Detectron2 ignores what PIL raises while it looks for EXIF data, for which a PNG is decoded: of
    a damaged one it would take what was decoded until then for the image.

    Raises:
        Exception: what PIL says of a PNG that cannot be decoded to its end.
    """
    with open(path, "rb") as f:
        if f.read(len(_PNG)) != _PNG:
            return
    try:
        with Image.open(path) as image:
            image.verify()  # checksums only, which takes next to no time
    except Exception:
        with Image.open(path) as image:
            image.load()


def unreadable_image(sample: dict) -> str:
    """Why the image of a dict in Detectron2's format cannot be trained on; "" if it can.

    To be asked when it was not mapped: an image that is too narrow may still be large enough.
    """
    if "file_name" not in sample:
        return ""
    try:
        check_png(sample["file_name"])
        image = read_image(sample["file_name"], format="BGR")
    except UnidentifiedImageError:  # its own message names an object in memory
        return "no image"
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return reason.splitlines()[0]
    height, width = image.shape[:2]
    try:
        check_image_size(dict(sample), image)
    except ValueError:
        return f"{width}x{height} px instead of {sample['width']}x{sample['height']}"
    if max(height, width) > MAX_RATIO * min(height, width):
        return f"{width}x{height} px, too narrow to be resized"
    return ""
