"""Print the oldest versions that pyproject.toml lets users have, as constraints of pip, for `make test-minimum`.

torch is left out: its oldest CPU builds are not in every index, and the others bring CUDA.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("onnx", "parquet")  # the others need services, torchvision, or a protobuf that onnx does not go with

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
for line in [*project["dependencies"], *extras]:
    name, oldest = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line).groups()
    if name != "torch":
        print(f"{name}=={oldest}")
