"""What goes on beside the runs: leases that are kept, ends that are told, lessons, cleaning up."""
