"""Set before anything is imported that imports gRPC, which reads it once."""

import os

# The tests of a service call gRPC and start servers from one process. gRPC's handlers of fork() crash the
# child there, which Python forks where it drops root for Postgres; they are for programs that go on to use
# gRPC in the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
