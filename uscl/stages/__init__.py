"""The work of one trial: encoder, decoder, finetune, evaluate. Knows no Ray and no MLflow."""
