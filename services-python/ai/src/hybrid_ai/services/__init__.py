"""One file for each gRPC service, and `edge`, through which every call comes in."""
