"""Put bundles on networks and take them off again."""
