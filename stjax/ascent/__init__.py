"""How one input is found: pure functions of one clip. The network is an argument; none is imported."""
