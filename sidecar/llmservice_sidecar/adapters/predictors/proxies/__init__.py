"""Fine-tuned proxy models, served from ONNX."""
