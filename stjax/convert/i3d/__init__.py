"""Published files of I3D."""
