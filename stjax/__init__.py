"""stjax shows what a video network has learned: activation maximisation for two-stream networks in JAX."""

from stjax.version import __version__ as __version__

# networks and weights
from stjax.convert.store import Model as Model
from stjax.networks.geometry import Probe as Probe
from stjax.networks.geometry import receptive_field as receptive_field
from stjax.networks.geometry import probe as probe
from stjax.networks.two_stream import TwoStream as TwoStream
from stjax.preprocess import Preprocessing as Preprocessing
from stjax.zoo import load as load

# what is to grow
from stjax.ascent.objectives import ChannelMean as ChannelMean
from stjax.ascent.objectives import ClassScore as ClassScore
from stjax.ascent.objectives import Direction as Direction
from stjax.ascent.objectives import LogOdds as LogOdds
from stjax.ascent.objectives import Neuron as Neuron

# how one input is found
from stjax.ascent.ascend import Info as Info
from stjax.ascent.ascend import State as State
from stjax.ascent.ascend import init as init
from stjax.ascent.ascend import step as step
from stjax.ascent.recipes import FAST as FAST
from stjax.ascent.recipes import MAHENDRAN as MAHENDRAN
from stjax.ascent.recipes import Recipe as Recipe

# how a loop of one's own is compiled
from stjax.compilation import jit as jit

# how many are found, and how they are read again
from stjax.atlas import results as results
from stjax.atlas.run import Summary as Summary
from stjax.atlas.run import visualize_units as visualize_units

# shared types
from stjax.errors import UsageError as UsageError
from stjax.types import Clip as Clip
