"""How real clips come in: optical flow, samples, crops, and the data set that statistics are recorded over."""
