"""Pictures that strangers point at: fetched without being led astray, decoded without being believed."""
