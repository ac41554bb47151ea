"""Greedy decoding, on a model whose scores are written down by hand."""

from types import SimpleNamespace

import pytest
import torch

from course_lib.decoding import greedy_decode
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig

BOS, EOS, A, B = 1, 2, 3, 4


class ScriptedModel:
    """Says each sentence's script word by word; its state is a dictionary with the number of steps done."""

    training = False

    def __init__(self, scripts):
        self.scripts, self.fed, self.encoded = scripts, [], 0

    def encode(self, source, lengths):
        self.encoded += 1
        return SimpleNamespace(initial_state={"done": 0})

    def step(self, token, state, memory):
        self.fed.append(token.tolist())
        logits = torch.zeros(len(self.scripts), 5)
        for row, script in enumerate(self.scripts):
            logits[row, script[min(state["done"], len(script) - 1)]] = 2.0
        return logits, {"done": state["done"] + 1}


def decode(model, **options):
    rows = len(model.scripts)
    source, lengths = torch.full((rows, 3), A), torch.full((rows,), 3)
    return greedy_decode(model, source, lengths, BOS, EOS, **options)


def test_takes_the_likeliest_token_and_feeds_it_back():
    model = ScriptedModel([[A, B, EOS], [B, B, EOS]])
    assert decode(model) == [[A, B], [B, B]]
    assert model.fed == [[BOS, BOS], [A, B], [B, B]]
    assert model.encoded == 1


def test_a_sentence_that_has_ended_stays_ended_while_others_go_on():
    model = ScriptedModel([[A, EOS, B], [B, A, B, EOS], [EOS, A]])
    assert decode(model) == [[A], [B, A, B], []]
    assert len(model.fed) == 4  # and nobody is asked again once all have ended


def test_stops_at_max_length_without_an_end():
    model = ScriptedModel([[A], [B, EOS]])
    assert decode(model, max_length=3) == [[A, A, A], [B]]
    assert len(model.fed) == 3


def test_batched_cached_decoding_equals_one_sentence_at_a_time_with_the_full_pass():
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(13, 11, embedding_size=17, hidden_size=38, attention_size=23)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)  # larger weights, so that the sentences differ
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([7, 2, 5])
    source = torch.randint(4, 13, (3, 7), generator=generator)
    batched = greedy_decode(model, source, lengths, BOS, EOS, max_length=19)
    for row, length in enumerate(lengths):
        tokens = [BOS]
        while len(tokens) <= 19:
            logits = model(source[row : row + 1, :length], torch.tensor([tokens]), lengths[row : row + 1])
            best = int(logits[0, -1].argmax())
            if best == EOS:
                break
            tokens.append(best)
        assert batched[row] == tokens[1:]
    assert len({tuple(sentence) for sentence in batched}) == 3


def test_errors_name_what_is_wrong():
    model = ScriptedModel([[A, EOS]])
    with pytest.raises(ValueError, match="max_length is 0"):
        decode(model, max_length=0)
    model.training = True
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        decode(model)
