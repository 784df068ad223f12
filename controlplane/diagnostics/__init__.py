"""What helps to find a fault: doctor, recording and replay."""
