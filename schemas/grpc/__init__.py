"""gRPC protocols (`*.proto`) and the code generated from them (`make generate`). Queries only."""
