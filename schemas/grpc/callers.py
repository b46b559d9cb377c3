"""Who may call which gRPC method; everybody else is refused.

Made from each service.toml by `make generate`.
"""

CALLERS: dict[str, frozenset[str]] = {
    "/millrace.inventory.v1.Inventory/GetAvailability": frozenset({"order"}),
    "/millrace.users.v1.Users/GetContact": frozenset({"notification"}),
}
