"""The small tested library of the course "Attention You Can Check".

attention          masks, scoring functions, attention layers, record_attention
batches            sentence pairs in padded batches, and the loss on one
checkpoints        weights in files
data               sentences with their vocabulary, and checked downloads
decoding           greedy decoding
exercises          check, which names mistakes, and progress
metrics            BLEU, alignment error rate, perplexity
models.seq2seq     the recurrent translator, with Bahdanau's attention and without
training           fit, the training loop
widgets            live views of attention
"""
