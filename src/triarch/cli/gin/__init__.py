"""gin: configs read from files and flags, without running what they say."""
