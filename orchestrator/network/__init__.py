"""What networks there are and how their devices are reached, whoever started them."""
