"""What a unit responds to: its largest activations over clips, and whether known motion is recovered."""
