"""What runs in the process that decodes; it imports PyAV and the standard library, and of stjax only itself."""
