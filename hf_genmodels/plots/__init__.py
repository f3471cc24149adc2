"""Pictures of samples, losses, latents, known pixels and polarised light, drawn with Pillow alone.

Images come back as `PIL.Image.Image`, known pixels and polarised light as tensors of colours; nothing is written here.
"""

from .canvas import PALETTE
from .charts import line_chart, scatter
from .constraints import constraint_picture
from .grids import chains_picture, image_grid, stack_pictures
from .panels import Panel, sheet
from .polarization import hsv_to_rgb, polarization_picture

__all__ = [
    "PALETTE",
    "Panel",
    "chains_picture",
    "constraint_picture",
    "hsv_to_rgb",
    "image_grid",
    "line_chart",
    "polarization_picture",
    "scatter",
    "sheet",
    "stack_pictures",
]
