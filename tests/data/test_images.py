"""Images: digits, Fashion-MNIST from files of our own making, and drawn shapes with their masks."""

import dataclasses
import gzip
import os
import struct

import pytest
import torch

from course_lib.data import download, images
from course_lib.data.images import LabeledImages, draw_shapes, load_images

SPLITS = ("train", "validation", "test")


def sizes(data):
    return [len(getattr(data, split)) for split in SPLITS]


def assert_sound(data, shape):
    """Pixels from 0 to 1 that nearly fill that range, labels that name classes, each class in each split."""
    for split in SPLITS:
        part = getattr(data, split)
        assert part.images.shape == (len(part), *shape) and part.images.dtype == torch.float32
        assert 0 <= part.images.min() < 0.1 and 0.9 < part.images.max() <= 1
        counts = part.labels.bincount(minlength=len(data.class_names))
        assert counts.sum() == len(part.labels) == len(part)
        assert counts.min() > 0.7 * counts.float().mean() and counts.max() < 1.3 * counts.float().mean()
        assert len(counts) == len(data.class_names)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", ["mnist", None, ["digits"], 5])
def test_what_does_not_exist_is_answered_with_the_choices(name):
    with pytest.raises(ValueError, match="choose from digits, fashion-mnist, shapes"):
        load_images(name)


def test_some_of_the_images():
    data = LabeledImages(torch.rand(7, 2, 3, 5), torch.arange(7), torch.rand(7, 3, 5) > 0.5)
    for rows in (slice(2, 5), torch.tensor([2, 3, 4]), torch.arange(7) // 3 * 3 != torch.arange(7)):
        part = data[rows]
        assert torch.equal(part.images, data.images[rows]) and torch.equal(part.masks, data.masks[rows])
        assert part.labels.tolist() == torch.arange(7)[rows].tolist() and len(part) == len(part.labels)
    assert dataclasses.replace(data, masks=None)[1:3].masks is None


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_single_image_is_not_a_slice():
    data = LabeledImages(torch.rand(7, 2, 3, 5), torch.arange(7))
    with pytest.raises(TypeError, match=r"slice it, \[3:4\], or take images\[3\]"):
        data[3]


# ------------------------------------------------------------------------------------------- digits


def test_digits():
    data = load_images("digits")
    assert sizes(data) == [1_200, 300, 297]
    assert_sound(data, (1, 8, 8))
    assert data.train.masks is None and data.class_names == tuple("0123456789")
    assert data.train.labels[:10].tolist() == list(range(10))  # the collection begins with one of each
    # What the labels say is what is seen: a zero is hollow, a one is not.
    zero, one = (data.test.images[data.test.labels == label, 0].mean(dim=0) for label in (0, 1))
    assert zero[3:5, 3:5].max() < 0.3 < 0.8 < one[3:5, 3:5].max()


# ------------------------------------------------------------------------------------ Fashion-MNIST


def idx(*shape, start=0):
    count = torch.Size(shape).numel()
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(
        (start + i) % 251 for i in range(count)
    )


@pytest.fixture
def small_files(monkeypatch, tmp_path):
    """Makes a data folder with files of the given contents, and a table that expects just these."""
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "never")

    def make(**contents):
        for name, content in contents.items():
            path = f"fashion-mnist/{name.replace('_', '-')}-ubyte.gz"
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(gzip.compress(content))
            digest = download.hashlib.sha256(content).hexdigest()
            record = dataclasses.replace(download.FILES[path], size=len(content), sha256=digest)
            monkeypatch.setitem(download.FILES, path, record)

    return make


FOUR = {
    "train_images_idx3": idx(24, 3, 5),
    "train_labels_idx1": idx(24, start=7),
    "t10k_images_idx3": idx(11, 3, 5, start=2),
    "t10k_labels_idx1": idx(11, start=3),
}


def test_fashion_mnist_is_read_byte_by_byte(small_files):
    small_files(**FOUR)
    data = load_images("fashion-mnist")
    assert sizes(data) == [22, 2, 11]
    assert data.train.images.shape == (22, 1, 3, 5)
    assert (data.train.images[1, 0] * 255).round().int().tolist() == [
        [15, 16, 17, 18, 19],
        [20, 21, 22, 23, 24],
        [25, 26, 27, 28, 29],
    ]
    assert data.validation.labels.tolist() == [29, 30] and data.train.labels[:2].tolist() == [7, 8]
    assert data.test.labels[0] == 3 and (data.test.images[0, 0, 0, 0] * 255).round() == 2


@pytest.mark.parametrize(
    "content",
    [
        idx(24 * 3, 5),
        idx(24, 3, 5)[:-1],
        idx(24, 3, 5) + b"\0",
        b"\0\0\x0d" + idx(24, 3, 5)[3:],
        b"",
        b"\0\0\x08",
    ],
)
def test_what_is_no_idx_file_is_refused(small_files, content):
    small_files(**(FOUR | {"train_images_idx3": content}))
    with pytest.raises(download.DataUnavailable, match=r"train-images.*3 axes in the idx format"):
        load_images("fashion-mnist")


def test_a_changed_file_is_refused(small_files, tmp_path):
    small_files(**FOUR)
    path = tmp_path / "fashion-mnist/t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(11, start=4)))
    with pytest.raises(download.DataUnavailable, match="t10k-labels"):
        load_images("fashion-mnist")


@pytest.mark.skipif(
    not os.environ.get(download.FOLDER_VARIABLE),
    reason=f"{download.FOLDER_VARIABLE} is not set: no real data",
)
def test_real_fashion_mnist():
    data = load_images("fashion-mnist")
    assert sizes(data) == [55_000, 5_000, 10_000]
    assert_sound(data, (1, 28, 28))
    assert data.class_names[data.train.labels[0]] == "ankle boot"
    # What the labels say is what is seen: boots reach from side to side, trousers do not.
    trousers, boots = (data.test.images[data.test.labels == label].mean(dim=(0, 1)) for label in (1, 9))
    assert (trousers > 0.3).any(dim=0).sum() < (boots > 0.3).any(dim=0).sum()


# ------------------------------------------------------------------------------------------- shapes


def test_shapes():
    data = load_images("shapes")
    assert sizes(data) == [6_000, 1_000, 1_000]
    assert_sound(data, (3, 32, 32))
    assert load_images("shapes") is data
    picture = data.test.images.flatten(1)
    assert (torch.cdist(picture[:200], data.train.images.flatten(1)) > 1).all()  # none is met in training


def test_shapes_depend_on_the_seed_and_on_nothing_else():
    state = torch.get_rng_state()
    first, again, other = draw_shapes(13, seed=1), draw_shapes(13, seed=1), draw_shapes(13, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("images", "labels", "masks"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def nearest_colour(pixels):
    palette = torch.tensor(list(images._COLOURS.values())) / 255
    return torch.cdist(pixels, palette).argmin(dim=1)


def test_the_mask_holds_a_disc_of_the_classs_colour():
    data = draw_shapes(211, seed=3)
    for picture, label, mask in zip(data.images, data.labels, data.masks, strict=True):
        colours = nearest_colour(picture[:, mask].T)
        assert (colours == label).float().mean() > 0.9  # noise may make red pixels look orange
        rows, columns = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert rows == columns and rows in (11, 13, 15)  # as high as wide: 2 radius + 1
        # A disc covers pi / 4 of its square; a square would cover all of it, a triangle half.
        assert 0.7 < mask.sum() / (rows * columns) < 0.87
    # No one place gives it away: the most frequent one is on the disc in few pictures.
    assert data.masks.float().mean(dim=0).max() < 0.4


def coloured(data):
    """How many pixels outside of the disc have the class's colour, and how many the most frequent other."""
    palette = torch.tensor(list(images._COLOURS.values())) / 255
    near = (data.images[:, None] - palette[None, :, :, None, None]).abs().amax(dim=2) < 0.1
    counts = (near & ~data.masks[:, None]).sum(dim=(2, 3))  # (picture, colour)
    own = counts.gather(1, data.labels[:, None])[:, 0]
    return own.float(), counts.scatter(1, data.labels[:, None], 0).amax(dim=1).float()


def test_the_other_figures_have_other_colours():
    own, others = coloured(draw_shapes(211, seed=3, num_others=3))
    assert own.mean() < 5 and others.mean() > 50
    own, others = coloured(draw_shapes(211, seed=3, num_others=0))  # the ground alone
    assert own.mean() < 5 and others.mean() < 10


def test_figures_by_hand():
    place = torch.arange(-3, 4, dtype=torch.int16)
    radius = torch.tensor([[[3]]], dtype=torch.int16)

    def drawn(figure):
        covered = images._covers(figure, place[None, :, None], place[None, None, :], radius)
        return ["".join(".#"[pixel] for pixel in row) for row in covered[0].int().tolist()]

    assert drawn("disc") == [
        "..###..",
        ".#####.",
        "#######",
        "#######",
        "#######",
        ".#####.",
        "..###..",
    ]
    assert drawn("cross") == [
        "..###..",
        "..###..",
        "#######",
        "#######",
        "#######",
        "..###..",
        "..###..",
    ]
    assert drawn("triangle") == [
        "...#...",
        "...#...",
        "..###..",
        "..###..",
        ".#####.",
        ".#####.",
        "#######",
    ]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: draw_shapes(0, seed=0), "count must be an int of at least 1, got 0"),
        (lambda: draw_shapes(2.5, seed=0), "count must be an int of at least 1, got 2.5"),
        (lambda: draw_shapes(3, seed=-1), "seed must be an int of at least 0, got -1"),
        (lambda: draw_shapes(3, seed=None), "seed must be an int of at least 0, got None"),
        (lambda: draw_shapes(3, seed=0, num_others=-1), "num_others must be an int of at least 0, got -1"),
    ],
)
def test_bad_calls_speak_to_a_learner(call, words):
    with pytest.raises(ValueError, match=words):
        call()
