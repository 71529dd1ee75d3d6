"""How real clips come in: optical flow, crops, and what a network's units answer over a data set."""
