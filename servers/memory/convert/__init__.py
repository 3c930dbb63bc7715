"""Memory's values between the wire and the domain. Total functions, no I/O."""
