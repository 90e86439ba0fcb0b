"""Pure maths on arrays: quantization, calibration statistics, low rank, redundant neurons."""
