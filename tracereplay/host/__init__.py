"""What touches the machine it runs on: calibration, recording, page contents."""
