"""The command `astromesh`: starts a mesh, and talks to one over gRPC."""
