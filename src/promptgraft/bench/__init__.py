"""Speed as measured: exact shortcuts against the loops that they replace, and how far the results differ."""
