"""The published proxy models: fine-tuned encoders that guess how long an answer will be."""
