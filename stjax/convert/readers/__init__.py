"""Published files -> {published name: array}. No reader ever executes code from a file, or trusts a size it declares.

Arrays come out as views of the file on disk where the container allows it, so that nothing is held twice.
"""
