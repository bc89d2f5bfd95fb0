"""What scanners find, and what can be heard on the gateway's sockets: all on loopback."""
