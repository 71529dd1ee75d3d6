"""How real clips come in: frames, optical flow, samples, crops, and the data set that statistics are recorded over."""

from stjax.video.reader import Frame as Frame
from stjax.video.reader import Video as Video
from stjax.video.reader import VideoError as VideoError
from stjax.video.reader import open as open
