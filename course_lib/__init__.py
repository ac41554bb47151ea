"""The small tested library of the course "Attention You Can Check".

From the ground up: attention, models, decoding, data, metrics, training. A file imports only from
files before it in this list.
"""
