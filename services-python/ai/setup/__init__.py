"""Set-up of the service: packages, generated code, and model weights. Nothing here is needed at run time."""
