"""How parameters come in: files of others and our own store."""
