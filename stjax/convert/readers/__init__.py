"""Published files -> {published name: array}. No reader ever executes code from a file, or trusts a size it declares.

A file is read into memory once, and arrays come out as views of that where the container allows it, so that nothing is
held twice. What a file may cost stands in `limits`; values that a checksum in it contradicts are refused.
"""
