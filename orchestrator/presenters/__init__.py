"""What commands and the page tell, as JSON values: one presenter each, so that both say the same."""
