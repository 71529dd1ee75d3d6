"""How the embedded network was made: clips with known motion, and one training loop."""
