"""How many inputs are found: units x chi, in chunks of one shape."""
