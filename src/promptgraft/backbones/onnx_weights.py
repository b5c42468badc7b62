"""Named weights out of an ONNX graph, whose exporter has dropped some of their names."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]


def named_weights(graph: Any) -> Arrays:
    """All weights of a graph by name, linear layers included.

    PyTorch's exporter stores the weight of a linear layer transposed and under a made-up name, but keeps the name of
    its bias: the MatMul that holds the one feeds the Add that holds the other.

    Args:
        graph: an `onnx.GraphProto`.

    Returns:
        name to array; linear weights are (out, in), as in PyTorch. The other arrays keep the exporter's names.
    """
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for product in graph.node:
        if product.op_type != "MatMul" or product.input[1] not in arrays:
            continue
        sums = [node for node in users[product.output[0]] if node.op_type == "Add"]
        biases = [name for node in sums for name in node.input if name in arrays and name.endswith(".bias")]
        if len(biases) == 1:
            weight = arrays.pop(product.input[1])
            arrays[biases[0].removesuffix("bias") + "weight"] = np.ascontiguousarray(weight.T)
    return arrays
