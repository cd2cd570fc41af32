"""The sentence in place of a section that the detector cannot have."""

from ..run import Run


def why_no_bins(run: Run) -> str:
    """Why nothing can be said about bins, or "" if it can."""
    if run.bins is None:
        return f"Left out: {run.name} is a {run.detector.architecture}, which has no bins."
    if run.bins.num_bins == 1:
        return (
            f"Left out: {run.name} has a single bin per direction (N = 1, direct regression), so "
            "that there is nothing to choose and p_loc is always 1."
        )
    if run.bins.borders.empty:
        return "Left out: no location of these images is a positive of label assignment."
    return ""
