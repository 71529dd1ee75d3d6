"""The commands, one file a family: each a few lines over public functions. `stjax.cli` registers them."""
