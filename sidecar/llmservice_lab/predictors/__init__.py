"""Length predictors in the lab: data, training, evaluation."""
