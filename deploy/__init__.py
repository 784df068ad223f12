"""What operators apply; the code here only renders it."""
