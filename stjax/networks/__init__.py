"""What is looked into: flax modules with named endpoints, and their geometry."""

from __future__ import annotations

from stjax.networks import i3d, two_stream
from stjax.networks.configuration import Architecture

ARCHITECTURES: dict[str, Architecture] = {
    "two_stream": Architecture(two_stream.TwoStream, two_stream.CONFIGURATION, two_stream.check),
    "i3d": Architecture(i3d.I3D, i3d.CONFIGURATION, i3d.check),
}
"""Name in a weights file -> how its network is rebuilt. Add a row for a network of your own before you load its file:

    stjax.networks.ARCHITECTURES["toy"] = Architecture(Toy, {"widths": tuple_of(whole(1, 4096), 1, 20)})
"""
