"""What mirrors trials while they train: wandb, TensorBoard, csv. No result and no training depends on it."""
