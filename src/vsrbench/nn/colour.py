"""Colour fixes for generated frames."""

from torch import Tensor


def replace_low_band(image: Tensor, reference: Tensor, sigma: float) -> Tensor:
    """``image`` with its low band taken from ``reference`` (both (B,3,H,W)); Gaussian of ``sigma`` pixels.

    The LR frame knows colour and large-scale contrast; a generated frame may drift in both.
    """
    from kornia.filters import gaussian_blur2d

    size = 2 * round(3 * sigma) + 1
    return image + gaussian_blur2d(reference - image, (size, size), (sigma, sigma), border_type="replicate")
