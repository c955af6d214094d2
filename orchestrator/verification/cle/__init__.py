"""The central logging entity (vNFO, 4.2): what points tell is sealed here before anybody judges it."""
