"""Saying what is wrong with the file of an image that could not be mapped."""

from detectron2.data.detection_utils import check_image_size, read_image

from ..images import check_png, reason_of

# Images whose sides differ more may have nothing left of the shorter one when they are resized.
MAX_RATIO = 100


def unreadable_image(sample: dict) -> str:
    """Say why the image of a dict in Detectron2's format cannot be trained on; "" if it can.

    To be asked when it was not mapped: an image that is too narrow may still be large enough.
    """
    if "file_name" not in sample:
        return ""
    try:
        check_png(sample["file_name"])
        image = read_image(sample["file_name"], format="BGR")
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        return reason_of(error)
    height, width = image.shape[:2]
    try:
        check_image_size(dict(sample), image)
    except ValueError:
        return f"{width}x{height} px instead of {sample['width']}x{sample['height']}"
    if max(height, width) > MAX_RATIO * min(height, width):
        return f"{width}x{height} px, too narrow to be resized"
    return ""
