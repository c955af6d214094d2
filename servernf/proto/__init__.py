"""The VNF management API: `vnf.proto` and what protoc made of it (checked in).

After a change of `vnf.proto`, from the project's root: `python -m servernf.proto.generate`
(needs grpcio-tools; a test compares the result with what is checked in).
"""
