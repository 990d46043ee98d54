//! JSON over HTTP to gRPC and back, by `google.api.http` annotations read at run time.
