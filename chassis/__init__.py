"""The microservice chassis: what every service stands on and none of them writes again.

Event store, relay, consumer, projections and the HTTP, gRPC and process plumbing. It knows nothing of
orders or stock: services import it, it imports no service and no schema.
"""
