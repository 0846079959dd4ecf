"""Networks; needs the extra `train`. Knows no file format and no scoring standard."""

from boneage.models import operators as operators  # first: timm and lightning import torchvision
