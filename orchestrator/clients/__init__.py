"""Everything that speaks gRPC: P4Runtime to switches, VNF management to workers."""
