"""stjax shows what a video network has learned: activation maximisation in JAX, for any network."""

from stjax.version import __version__ as __version__

# networks and weights
from stjax.model import Model as Model
from stjax.model import Statistics as Statistics
from stjax.networks.geometry import probe as probe
from stjax.networks.geometry import receptive_field as receptive_field
from stjax.networks.two_stream import TwoStream as TwoStream
from stjax.preprocess import Preprocessing as Preprocessing
from stjax.user_model import wrap as wrap
from stjax.zoo import load as load

# what a network says of itself
from stjax.types import Clip as Clip
from stjax.types import Extent as Extent
from stjax.types import Field as Field
from stjax.types import Input as Input
from stjax.types import Layer as Layer
from stjax.types import Probe as Probe

# what is to grow
from stjax.ascent.objectives import ChannelMean as ChannelMean
from stjax.ascent.objectives import ClassScore as ClassScore
from stjax.ascent.objectives import Direction as Direction
from stjax.ascent.objectives import LogOdds as LogOdds
from stjax.ascent.objectives import Neuron as Neuron
from stjax.ascent.objectives import Sum as Sum

# what it costs
from stjax.ascent.regularizers import Bound as Bound
from stjax.ascent.regularizers import LocalEnergy as LocalEnergy
from stjax.ascent.regularizers import SpatialVariation as SpatialVariation
from stjax.ascent.regularizers import TemporalVariation as TemporalVariation

# how steps are made, and of which views
from stjax.ascent.optimizers import Adam as Adam
from stjax.ascent.optimizers import Momentum as Momentum
from stjax.ascent.optimizers import Sobolev as Sobolev
from stjax.ascent.optimizers import Weights as Weights
from stjax.ascent.transforms import FieldDropout as FieldDropout
from stjax.ascent.transforms import Jitter as Jitter
from stjax.ascent.transforms import OnePixel as OnePixel
from stjax.ascent.transforms import QuarterStride as QuarterStride
from stjax.ascent.transforms import Zoom as Zoom
from stjax.ascent.parametrization import MovingPicture as MovingPicture

# how one input is found
from stjax.ascent.recipes import FAST as FAST
from stjax.ascent.recipes import GLOBAL as GLOBAL
from stjax.ascent.recipes import MAHENDRAN as MAHENDRAN
from stjax.ascent.recipes import MOVING as MOVING
from stjax.ascent.recipes import Recipe as Recipe
from stjax.ascent.step import AscentInfo as AscentInfo
from stjax.ascent.step import AscentState as AscentState
from stjax.ascent.step import start_ascent as start_ascent
from stjax.ascent.step import step_ascent as step_ascent

# how a loop of one's own is compiled
from stjax.compilation import jit as jit

# how many are found, and how they are read again
from stjax.atlas import results as results
from stjax.record import Record as Record
from stjax.atlas.request import Request as Request
from stjax.atlas.run import Result as Result
from stjax.atlas.run import Summary as Summary
from stjax.atlas.run import visualize_units as visualize_units

# what a network answers over a data set, and how published weights come in
from stjax.analysis.calibration import calibrated as calibrated
from stjax.analysis.statistics import divisors as divisors
from stjax.analysis.statistics import record_maxima as record_maxima
from stjax.convert.conversion import convert_files as convert_files
from stjax.convert.store import save as save
from stjax.model import resized as resized

# what goes wrong, in one line
from stjax.errors import UsageError as UsageError
