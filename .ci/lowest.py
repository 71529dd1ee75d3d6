"""Prints pip constraints: of every package that pyproject.toml asks for, the lowest version it admits."""

import re
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
for requirement in (
    *project["dependencies"],
    *(each for name in ("test", "convert", "vgg16", "i3d") for each in extras[name]),
):
    if match := re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:>=|==)([\d.]+)", requirement):
        name, version = match.groups()
        print(f"{name}=={version}")
