"""How other libraries do what `mtl bench` measures: the peers of its benches. No part of the package `mtl`."""
