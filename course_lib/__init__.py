"""The small tested library of the course "Attention You Can Check".

attention          masks, scoring functions, attention layers, record_attention
batches            sentence pairs in padded batches, and the loss on one
checkpoints        weights in files
data               sentences with their vocabulary, texts, images, and checked downloads
decoding           greedy decoding and beam search of a translation
exercises          check, which names mistakes, and progress
generation         continuing a text: greedy, sampled, with a cache and without
metrics            BLEU, alignment error rate, perplexity, pointing accuracy
models.gpt         GPT, decoder-only
models.seq2seq     the recurrent translator, with Bahdanau's attention and without
models.transformer the Transformer, encoder and decoder
models.vit         the Vision Transformer
pretrained         published weights
training           fit, the training loop
widgets            live views of attention
"""
