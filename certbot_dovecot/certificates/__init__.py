"""What is known of X.509 certificates: which names they may carry.  Knows neither mail servers nor the DNS."""
