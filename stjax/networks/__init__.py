"""What is looked into: flax modules with named endpoints, and their geometry."""
