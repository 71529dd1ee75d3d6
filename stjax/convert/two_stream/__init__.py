"""Two-stream VGG-16s: streams as others published them, and how they are joined."""
