"""gRPC protocols (`*.proto`) and the code generated from them (`make proto`). Queries only."""
