"""The exercises of chapter 8: patches there and back, the class token, counting, grading and rollout."""

import torch
from torch.nn import functional as F

from course_lib.exercises.exercise import Goal, exercise, target
from course_lib.exercises.models import score, shaken, trained_model
from course_lib.models.vit import ViT, ViTConfig, image_to_patches

TITLE = "The Vision Transformer"


def _embedded(g):
    for what, batch, count, width in (
        ("one image of one patch", 1, 1, 3),
        ("one image", 1, 3, 5),
        ("two images", 2, 3, 5),
    ):
        yield what, (torch.randn(width, generator=g), torch.randn(batch, count, width, generator=g))
    yield "a class vector of zeros", (torch.zeros(5), torch.randn(2, 3, 5, generator=g))


@exercise("8.1", _embedded, solved="One more word in front of the sentence, and it belongs to no patch.")
def put_first(class_vector, patches):
    return torch.cat([class_vector.expand(len(patches), 1, -1), patches], dim=1)


@put_first.mistake(
    "class token appended last",
    "It stands behind the patches. Whoever then reads state 0 reads that of the first patch.",
)
def put_last(class_vector, patches):
    return torch.cat([patches, class_vector.expand(len(patches), 1, -1)], dim=1)


@put_first.mistake(
    "in the place of the first patch",
    "The first patch is overwritten. The sentence grows by one: M + 1 places.",
)
def in_its_place(class_vector, patches):
    return torch.cat([class_vector.expand(len(patches), 1, -1), patches[:, 1:]], dim=1)


@put_first.mistake(
    "added to each patch", "The class vector is a place of its own, not a part of every patch."
)
def added(class_vector, patches):
    return patches + class_vector


@put_first.mistake(
    "zeros in front", "There must stand the class vector, which is trained. You put zeros there."
)
def zeros_first(class_vector, patches):
    return F.pad(patches, (0, 0, 1, 0))


@put_first.mistake(
    "in front of the images",
    "You made the batch longer, by an image that is all class vector. Each image gets one more *place*: "
    "dim=1.",
)
def first_image(class_vector, patches):
    return torch.cat([class_vector.expand_as(patches[:1]), patches], dim=0)


@put_first.mistake(
    "once for each patch", "Every image needs it once: with M patches there are M + 1 places, not 2 M."
)
def one_for_each_patch(class_vector, patches):
    return torch.cat([class_vector.expand_as(patches), patches], dim=1)


def _patch_rows(g):
    for what, channels, P, rows, columns in (
        ("patches of one pixel, in grey", 1, 1, 3, 5),
        ("a single patch, in grey", 1, 3, 1, 1),
        ("one row of patches", 1, 2, 1, 3),
        ("one column of patches", 1, 2, 3, 1),
        ("colour", 3, 2, 2, 5),
    ):
        patches = torch.randn(rows * columns, channels * P * P, generator=g)
        yield what, (patches, P, rows * P, columns * P)


@exercise("8.2", _patch_rows, solved="Nothing was lost in cutting: a picture and its sentence are one.")
def patches_to_image(patches, P, height, width):
    cut = patches.view(height // P, width // P, -1, P, P)  # (row, column, channel, P, P)
    return cut.permute(2, 0, 3, 1, 4).reshape(-1, height, width)


def _joined(patches, P, height, width, order):
    """The image of patches whose five axes are put into another order before they are flattened."""
    cut = patches.view(height // P, width // P, -1, P, P)
    return cut.permute(*order).reshape(-1, height, width)


@patches_to_image.mistake(
    "patches in transposed order",
    "You lay the patches column by column. They follow one another row by row, as words are read.",
)
def column_by_column(patches, P, height, width):
    cut = patches.view(width // P, height // P, -1, P, P)
    return cut.permute(2, 1, 3, 0, 4).reshape(-1, height, width)


@patches_to_image.mistake(
    "transposed inside the patches",
    "Each patch stands in its place, and its own rows and columns are exchanged: the last axis of the five "
    "runs along the width.",
)
def turned_inside(patches, P, height, width):
    return _joined(patches, P, height, width, (2, 0, 4, 1, 3))


@patches_to_image.mistake(
    "reshaped without moving the axes",
    "reshape takes the numbers as they lie in memory, patch after patch. A row of pixels passes through "
    "several patches: move the axes first.",
)
def only_reshaped(patches, P, height, width):
    return patches.reshape(-1, height, width)


@patches_to_image.mistake(
    "the channels taken for the last axis",
    "A patch lists all of its first channel, then the second: (channel, P, P), not (P, P, channel).",
)
def channels_last(patches, P, height, width):
    cut = patches.view(height // P, width // P, P, P, -1)
    return cut.permute(4, 0, 2, 1, 3).reshape(-1, height, width)


@patches_to_image.mistake(
    "the two axes of a side exchanged",
    "A row of pixels is (row of patches, row inside it), in this order; you have the second first, and so "
    "the patches are dealt out pixel by pixel.",
)
def dealt_out(patches, P, height, width):
    return _joined(patches, P, height, width, (2, 3, 0, 4, 1))


@patches_to_image.mistake(
    "patches one below another",
    "The rows inside a patch and the columns of patches stand in the wrong order, so the patches are laid "
    "one after another and not side by side.",
)
def stacked(patches, P, height, width):
    return _joined(patches, P, height, width, (2, 0, 1, 3, 4))


@patches_to_image.mistake(
    "height and width exchanged", "The image is (channel, height, width); yours lies on its side."
)
def on_its_side(patches, P, height, width):
    return patches_to_image.reference(patches, P, height, width).transpose(1, 2)


def _vit_sizes(g):
    def some(low, high):
        return int(torch.randint(low, high, (), generator=g))

    yield "a single patch, one block", (4, 4, 1, 2, some(3, 90), 1, some(3, 90))
    yield "grey pictures", (8, 2, 1, 10, some(3, 90), 3, some(3, 90))
    yield "colour, any sizes", (4 * some(2, 9), 4, 3, some(2, 99), some(3, 90), some(2, 13), some(3, 90))


@exercise(
    "8.3",
    _vit_sizes,
    solved="Set the paper's sizes in, and you see where its 86 million parameters sit: in the blocks.",
    tolerance=1e-9,
)
def vit_parameters(image_size, P, channels, classes, D, blocks, d_ff):
    M = (image_size // P) ** 2
    start = (channels * P**2 + 1) * D + D + (M + 1) * D
    block = 4 * (D**2 + D) + 2 * D * d_ff + d_ff + D + 4 * D
    readout = 2 * (D**2 + D) + (D + 1) * classes
    return start + blocks * block + 2 * D + readout


def _count(*sizes):
    return vit_parameters.reference(*sizes)


@vit_parameters.mistake(
    "D too few",
    "One vector of width D is missing: is it the class vector, the code of its place (there are M + 1), or "
    "the bias of the patch matrix?",
)
def one_vector_missing(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - D


@vit_parameters.mistake(
    "2 D too few",
    "Either the LayerNorm behind the blocks is missing, its scale and its shift, or two vectors of width D "
    "at the start.",
)
def two_vectors_missing(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - 2 * D


@vit_parameters.mistake("no position codes", "Each of the M + 1 places has a trained code of width D.")
def no_codes(image_size, P, channels, classes, D, blocks, d_ff):
    M = (image_size // P) ** 2
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - (M + 1) * D


@vit_parameters.mistake(
    "one side for the number of patches", "M counts all patches: those of a row times those of a column."
)
def one_side(image_size, P, channels, classes, D, blocks, d_ff):
    side = image_size // P
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - (side**2 - side) * D


@vit_parameters.mistake(
    "one channel", "A patch has channels · P² numbers: in colour three times as many as in grey."
)
def one_channel(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, 1, classes, D, blocks, d_ff)


@vit_parameters.mistake("one block alone", "Each block has parameters of its own: multiply.")
def one_block(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, 1, d_ff)


@vit_parameters.mistake(
    "the linear readout", "The MLP readout has two hidden layers of width D before the last map."
)
def linear_readout(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - 2 * (D**2 + D)


@vit_parameters.mistake(
    "blocks without LayerNorm", "Each block has two LayerNorms, each with a scale and a shift of width D."
)
def no_norms(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - 4 * D * blocks


@vit_parameters.mistake(
    "no biases in the blocks", "Each of a block's six matrices has a bias, as long as its output is wide."
)
def no_biases(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - blocks * (5 * D + d_ff)


@vit_parameters.mistake(
    "three matrices of attention", "There are four: queries, keys, values, and the output's."
)
def three_matrices(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - blocks * (D**2 + D)


@vit_parameters.mistake("one matrix of the network", "The network goes up to d_ff and back: two matrices.")
def one_matrix(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - blocks * D * d_ff


@vit_parameters.mistake(
    "one side of a patch", "A patch has P rows of P pixels, channels · P² numbers, not channels · P."
)
def side_of_a_patch(image_size, P, channels, classes, D, blocks, d_ff):
    return _count(image_size, P, channels, classes, D, blocks, d_ff) - channels * (P**2 - P) * D


def _weights_and_masks(g):
    def weights(*shape):
        return torch.randn(shape, generator=g).softmax(dim=-1)

    yield "a single patch", (weights(1, 1), torch.tensor([[[True, False], [False, False]]]), 2)
    stripes = torch.zeros(1, 6, 9, dtype=torch.bool)
    stripes[..., ::3] = True
    yield "an object in stripes: a third of each patch", (weights(1, 6), stripes, 3)
    pointed = weights(15, 15)
    whole = F.one_hot(pointed.argmax(dim=1), 15).bool().view(15, 3, 5)
    pixels = whole.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    yield "objects of just one patch, where the weight is largest", (pointed, pixels, 2)
    corner = torch.randint(0, 5, (2, 30, 1, 1), generator=g)
    row, column = torch.arange(6)[:, None], torch.arange(10)
    objects = (row >= corner[0]) & (row < corner[0] + 3) & (column >= corner[1]) & (column < corner[1] + 5)
    yield "thirty images, with objects that cover patches partly", (weights(30, 15), objects, 2)


@exercise("8.4", _weights_and_masks, solved="A map is graded by a number now, and not by how good it looks.")
def my_pointing_accuracy(weights, masks, P):
    share = image_to_patches(masks[:, None].float(), P).mean(dim=2)  # (image, M)
    return share.gather(1, weights.argmax(dim=1, keepdim=True)).mean().item()


def _share(masks, P):
    return image_to_patches(masks[:, None].float(), P).mean(dim=2)


def _at(share, place):
    return share.gather(1, place[:, None]).mean().item()


@my_pointing_accuracy.mistake(
    "any pixel is enough",
    "A patch counts in full as soon as one pixel of it is object. What counts is the *share* of its pixels.",
)
def any_pixel(weights, masks, P):
    return _at((_share(masks, P) > 0).float(), weights.argmax(dim=1))


@my_pointing_accuracy.mistake(
    "more than half is enough", "You round: a patch counts by its share, not by 0 or 1."
)
def rounded(weights, masks, P):
    return _at((_share(masks, P) > 0.5).float(), weights.argmax(dim=1))


@my_pointing_accuracy.mistake(
    "attention mass",
    "You add up the weight that lies on the object. Pointing asks for one place alone, that of the largest "
    "weight.",
)
def mass(weights, masks, P):
    return (weights * _share(masks, P)).sum(dim=1).mean().item()


@my_pointing_accuracy.mistake(
    "the largest weight itself",
    "You take the patch with most of the object and return its weight. It is the other way round: the patch "
    "with the largest weight, and its share of object.",
)
def weight_at_the_object(weights, masks, P):
    return _at(weights, _share(masks, P).argmax(dim=1))


@my_pointing_accuracy.mistake("the least weight", "You look at the patch that the model looks at least.")
def least(weights, masks, P):
    return _at(_share(masks, P), weights.argmin(dim=1))


@my_pointing_accuracy.mistake(
    "patches in transposed order",
    "The patches of your masks follow one another column by column, and the weights row by row.",
)
def masks_by_columns(weights, masks, P):
    rows, columns = masks.shape[1] // P, masks.shape[2] // P
    share = _share(masks, P).unflatten(1, (rows, columns)).transpose(1, 2).flatten(1)
    return _at(share, weights.argmax(dim=1))


@my_pointing_accuracy.mistake(
    "one place for all images",
    "You take the patch that has most weight in the mean over the images. Each image has its own.",
)
def one_place(weights, masks, P):
    place = weights.mean(dim=0).argmax().expand(len(weights))
    return _at(_share(masks, P), place)


@my_pointing_accuracy.mistake(
    "the sum over the images", "The accuracy is the *mean* over the images: divide by how many there are."
)
def sum_of_images(weights, masks, P):
    return my_pointing_accuracy.reference(weights, masks, P) * len(weights)


@my_pointing_accuracy.mistake(
    "pixels counted", "You add up the object's pixels in the patch. What counts is their share: the mean."
)
def pixels_counted(weights, masks, P):
    return my_pointing_accuracy.reference(weights, masks, P) * P**2


@my_pointing_accuracy.mistake(
    "hit or miss",
    "You ask whether the largest weight lies on the patch with most of the object. It counts by its *share* "
    "of object, whichever patch it is.",
)
def hit_or_miss(weights, masks, P):
    return (weights.argmax(dim=1) == _share(masks, P).argmax(dim=1)).float().mean().item()


def _lists_of_weights(g):
    for what, blocks, batch, heads, n in (
        ("one block, one head", 1, 1, 1, 3),
        ("one block", 1, 1, 2, 3),
        ("two blocks, one head", 2, 1, 1, 3),
        ("four blocks, two images", 4, 2, 3, 5),
    ):
        yield what, ([(2 * torch.randn(batch, heads, n, n, generator=g)).softmax(-1) for _ in range(blocks)],)


@exercise("8.5", _lists_of_weights, solved="From the last state back to the pixels, through all blocks.")
def my_rollout(list_of_weights):
    own = torch.eye(list_of_weights[0].shape[-1])
    rollout = own
    for weights in list_of_weights:
        rollout = (weights.mean(dim=1) + own) / 2 @ rollout
    return rollout


def _rolled(list_of_weights, step=lambda mean, own: (mean + own) / 2, heads=lambda weights: weights.mean(1)):
    own = torch.eye(list_of_weights[0].shape[-1])
    rollout = own
    for weights in list_of_weights:
        rollout = step(heads(weights), own) @ rollout
    return rollout


@my_rollout.mistake(
    "the blocks in the wrong order",
    "You multiply each new block on the right. The last block asks, so it stands on the left: A_L ... A_1.",
)
def wrong_order(list_of_weights):
    return _rolled(list_of_weights[::-1])


@my_rollout.mistake(
    "no residual", "Half of each state is counted as its own: add the identity, and divide by 2."
)
def no_residual(list_of_weights):
    return _rolled(list_of_weights, lambda mean, own: mean)


@my_rollout.mistake(
    "the identity added, and not halved", "Rows must sum to one in each block: divide the sum by 2."
)
def not_halved(list_of_weights):
    return _rolled(list_of_weights, lambda mean, own: mean + own)


@my_rollout.mistake("the last block alone", "The matrices of all blocks are multiplied. You return the last.")
def last_alone(list_of_weights):
    return _rolled(list_of_weights[-1:])


@my_rollout.mistake("the mean over the blocks", "Blocks follow each other, so their matrices are multiplied.")
def mean_of_blocks(list_of_weights):
    return torch.stack([_rolled([weights]) for weights in list_of_weights]).mean(dim=0)


@my_rollout.mistake("the first head alone", "Take the mean over all heads, axis 1.")
def first_head(list_of_weights):
    return _rolled(list_of_weights, heads=lambda weights: weights[:, 0])


@my_rollout.mistake(
    "the largest of the heads", "With the largest in place of the mean the rows sum to more than one."
)
def largest_head(list_of_weights):
    return _rolled(list_of_weights, heads=lambda weights: weights.amax(dim=1))


@my_rollout.mistake(
    "the residual once for all blocks",
    "You multiply the bare weights and add the identity in the end. Every block has a residual of its own.",
)
def residual_once(list_of_weights):
    own = torch.eye(list_of_weights[0].shape[-1])
    return (_rolled(list_of_weights, lambda mean, own: mean) + own) / 2


@my_rollout.mistake("the heads added up", "Take the mean over the heads: their sum has rows above one.")
def heads_added(list_of_weights):
    return _rolled(list_of_weights, heads=lambda weights: weights.sum(dim=1))


@my_rollout.mistake(
    "multiplied number by number",
    "`*` multiplies entry by entry. Means of means are a product of matrices: `@`.",
)
def elementwise(list_of_weights):
    own = torch.eye(list_of_weights[0].shape[-1])
    rollout = 1.0
    for weights in list_of_weights:
        rollout = (weights.mean(dim=1) + own) / 2 * rollout
    return rollout


@my_rollout.mistake(
    "the class token's row alone",
    "All rows are asked for, (image, position, position). You cut out the first.",
)
def first_row(list_of_weights):
    return my_rollout.reference(list_of_weights)[:, 0]


@my_rollout.mistake(
    "only the identity is halved",
    "Python divides and multiplies before it adds: `mean + own / 2 @ rollout` needs parentheses around the "
    "sum.",
)
def sum_without_parentheses(list_of_weights):
    own = torch.eye(list_of_weights[0].shape[-1])
    rollout = own
    for weights in list_of_weights:
        rollout = weights.mean(dim=1) + own / 2 @ rollout
    return rollout


def _pictures(g):
    for what, batch, channels, P, rows, columns in (
        ("grey, a single patch", 1, 1, 2, 1, 1),
        ("grey, one column of patches", 1, 1, 2, 3, 1),
        ("grey, patches of one pixel", 1, 1, 1, 3, 5),
        ("grey, one row of patches", 1, 1, 2, 1, 3),
        ("colour, a single patch", 1, 3, 2, 1, 1),
        ("two pictures in colour", 2, 3, 2, 3, 5),
    ):
        yield what, (torch.randn(batch, channels, rows * P, columns * P, generator=g), P)


@exercise("8.6", _pictures, solved="Each row is a square of the picture now, and neighbours stay together.")
def suspicious_patches(images, P):
    count, channels, height, width = images.shape
    cut = images.reshape(count, channels, height // P, P, width // P, P)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * P * P)


def _cut(images, P, order):
    """Patches whose six axes (image, channel, row, P, column, P) are put into another order."""
    count, channels, height, width = images.shape
    cut = images.reshape(count, channels, height // P, P, width // P, P)
    return cut.permute(*order).reshape(count, -1, channels * P * P)


@suspicious_patches.mistake(
    "reshaped without moving the axes", "Its patches are stripes of one channel.", as_given=True
)
def patches_as_given(images, P):
    return images.reshape(len(images), -1, images.shape[1] * P * P)


@suspicious_patches.mistake(
    "patches in transposed order",
    "The patches are right, and follow one another column by column. As words are read, row by row, is the "
    "order that the positions and every published model expect.",
)
def patches_by_columns(images, P):
    return _cut(images, P, (0, 4, 2, 1, 3, 5))


@suspicious_patches.mistake(
    "transposed inside the patches",
    "The patches stand in the right order, and each is turned: inside, too, the row comes before the column.",
)
def patches_turned(images, P):
    return _cut(images, P, (0, 2, 4, 1, 5, 3))


@suspicious_patches.mistake(
    "the channels last in a patch",
    "You list a pixel's colours together. A patch lists its first channel, then the second: then one matrix "
    "on it is the same as a convolution.",
)
def colours_together(images, P):
    return _cut(images, P, (0, 2, 4, 3, 5, 1))


@suspicious_patches.mistake(
    "the channels before the places",
    "The channel axis was not moved behind rows and columns: a row of numbers now mixes neighbouring "
    "patches of one channel.",
)
def channels_first(images, P):
    return _cut(images, P, (0, 1, 2, 4, 3, 5))


@suspicious_patches.mistake(
    "pixels dealt out",
    "You split a side into (P, rows) and not into (rows, P): a patch gets every so many-th pixel of the "
    "picture.",
)
def pixels_dealt_out(images, P):
    count, channels, height, width = images.shape
    cut = images.reshape(count, channels, P, height // P, P, width // P)
    return cut.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, channels * P * P)


@suspicious_patches.mistake(
    "unfold without transposing",
    "`unfold` returns (image, channel · P · P, M): a column for each patch. Exchange the last two axes.",
)
def unfolded(images, P):
    return F.unfold(images, P, stride=P)


def _models_and_images(g):
    for what, batch, channels, size, readout, codes in (
        ("position codes of zeros", 1, 1, (2, 4), "linear", 0.0),
        ("a single patch", 1, 1, (2, 2), "linear", 1.0),
        ("two pictures in colour", 2, 3, (4, 6), "mlp", 1.0),
    ):
        config = ViTConfig(
            size, 2, 5, channels, d_model=8, num_heads=2, num_blocks=2, d_ff=7, readout=readout
        )
        model = shaken(ViT(config), g, 0.5)
        model.positions.weight.mul_(codes)
        yield what, (model, torch.randn(batch, channels, *size, generator=g))


@exercise("8.7", _models_and_images, solved="Weights that others trained will work in it, too.")
def suspicious_vit(model, images):
    patches = model.patch_embedding(image_to_patches(images, model.config.patch_size))
    first = model.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + model.positions.weight
    for block in model.blocks:
        x = block(x)
    return model.readout(model.norm(x)[:, 0])


def _vit(model, images, joined, read=lambda states: states[:, 0], norm=True):
    """The logits; `joined` makes the sequence of the patches, the class vectors and the position codes."""
    patches = model.patch_embedding(image_to_patches(images, model.config.patch_size))
    first = model.class_vector.expand(len(images), 1, -1)
    x = joined(patches, first, model.positions.weight)
    for block in model.blocks:
        x = block(x)
    return model.readout(read(model.norm(x) if norm else x))


def _right(patches, first, codes):
    return torch.cat([first, patches], dim=1) + codes


@suspicious_vit.mistake("every code one place too early", "The class token has none.", as_given=True)
def codes_shifted(model, images):
    return _vit(model, images, lambda patches, first, codes: torch.cat([first, patches + codes[:-1]], dim=1))


@suspicious_vit.mistake(
    "the class token has no code",
    "The patches have theirs now. The class token has a place, too, and so a code: the first.",
)
def class_without_code(model, images):
    return _vit(model, images, lambda patches, first, codes: torch.cat([first, patches + codes[1:]], dim=1))


@suspicious_vit.mistake("no position codes", "The codes were in the wrong place. Now they are gone.")
def codes_gone(model, images):
    return _vit(model, images, lambda patches, first, codes: torch.cat([first, patches], dim=1))


@suspicious_vit.mistake(
    "class token appended last",
    "Now it stands behind the patches, and state 0, which is read, is that of the first patch.",
)
def class_last(model, images):
    return _vit(model, images, lambda patches, first, codes: torch.cat([patches, first], dim=1) + codes)


@suspicious_vit.mistake(
    "the last patch is read", "The class token stands first, so its state is 0 and not −1."
)
def last_read(model, images):
    return _vit(model, images, _right, lambda states: states[:, -1])


@suspicious_vit.mistake(
    "the mean of all states",
    "Some models read the mean over the places. These weights were trained to have the class state read.",
)
def mean_read(model, images):
    return _vit(model, images, _right, lambda states: states.mean(dim=1))


@suspicious_vit.mistake(
    "the last LayerNorm is missing", "Pre-norm blocks end with a bare sum: `model.norm` comes behind them."
)
def norm_missing(model, images):
    return _vit(model, images, _right, norm=False)


@suspicious_vit.mistake(
    "codes before the join",
    "The codes of the first M places went to the patches, and the last one's to the class token. The class "
    "token stands first, so join before you add.",
)
def last_code_to_class(model, images):
    return _vit(
        model,
        images,
        lambda patches, first, codes: torch.cat([first + codes[-1], patches + codes[:-1]], dim=1),
    )


@target(
    "8.8", solved="Half the parameters read as well: with few pictures, what is not there need not learn."
)
def smaller_digit_reader(answer, generator, *, digits, parameters):
    model = trained_model(answer)
    right = score(
        model, (digits.images,), lambda output: (output.argmax(dim=-1) == digits.labels).float().mean()
    )
    size = sum(parameter.numel() for parameter in model.parameters())
    return [Goal("parameters", size, at_most=parameters), Goal("share of right digits", right, at_least=0.85)]
