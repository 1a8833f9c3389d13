"""Where the numbers of many blobs lie, all at once (compute/blobs.py).

Tables here have a column for each blob; their rows are blocks, fields, or rows of forms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.records import Octets, Words, before

_FIELDS_A_ROW = 8
_FEW_NUMBERS = 2048
"""Fields of no more numbers in all are taken together: a call then costs more than what it does."""
_WIDTHS = np.clip((np.arange(1 + 1022 + 65) - 1022 + 7) // 8, 0, 8)
"""How many bytes a number takes, by its exponent as a double."""


@dataclass(frozen=True)
class Forms:
    """How the forms of blobs with the same blocks are made: in rows of up to eight bytes, each of one block.

    A row has the widths of up to eight fields; the first one of a block has its count before them.
    """

    block: Ints  # of each field
    row: Ints  # of each field
    shift: Words  # by how many bits its width is moved up in its row, of each field
    row_block: Ints  # of each row
    width_bytes: Ints  # of each row
    first: Ints  # of each block its first row

    def sizes(self, count_bytes: Ints, is_there: Bools | Octets) -> Ints:
        """Bytes of each row: of a block that is not there none; `count_bytes` is of each blob."""
        sizes = np.repeat(self.width_bytes[:, None], len(count_bytes), axis=1)
        sizes[self.first] += count_bytes
        found: Ints = sizes * is_there[self.row_block]
        return found


@lru_cache(maxsize=256)
def forms_of(fields: tuple[int, ...]) -> Forms:
    """Of blocks with so many fields each."""
    rows = [
        (block, min(number - start, _FIELDS_A_ROW))
        for block, number in enumerate(fields)
        for start in range(0, number, _FIELDS_A_ROW)
    ]
    row_block, row_fields = (np.array(each) for each in zip(*rows, strict=True))
    row = np.repeat(np.arange(len(rows)), row_fields)
    return Forms(
        block=row_block[row],
        row=row,
        shift=4 * (np.arange(len(row)) - before(row_fields)[row]).astype(np.uint64),
        row_block=row_block,
        width_bytes=(row_fields + 1) // 2,
        first=np.searchsorted(row_block, np.arange(len(fields))),
    )


@dataclass(frozen=True)
class Run:
    """Fields that follow each other and are read or written at once: several of few numbers, or a single one.

    `cuts` are the bounds between the fields' numbers; `segment` is of each number which field and blob it is of,
    counted field by field, and `first` of each segment how many numbers come before it.
    """

    fields: slice
    cuts: list[int]
    segment: Ints
    first: Ints

    def places(self, at: Ints, widths: Ints) -> Ints:
        """Where each number lies: those of a field and a blob side by side from `at` on."""
        width = widths.ravel()
        places = np.arange(len(self.segment))
        places *= width[self.segment]
        places += (at.ravel() - self.first * width)[self.segment]
        return places

    def widths(self, words: Words, held: Ints) -> Ints:
        """How many bytes the numbers of each field need; `held` says how many numbers these are."""
        largest = np.zeros(held.size, np.uint64)
        there = np.flatnonzero(held)
        if len(there) == len(words):
            largest[there] = words
        elif words.any():
            largest[there] = np.bitwise_or.reduceat(
                words, self.first[there]
            )  # as wide as the largest of them
        # Its exponent is a number's count of bits, or one more where it was rounded up: then nothing is lost.
        found: Ints = _WIDTHS[largest.astype(np.float64).view(np.int64) >> 52].reshape(held.shape)
        return found


def runs(forms: Forms, owners: list[Ints], counts: Ints) -> Iterator[Run]:
    """All fields, in order; of each block the blobs that its numbers are of, and how many each blob has."""
    firsts = np.cumsum(counts, axis=1) - counts
    blocks = forms.block.tolist()
    start = 0
    while start < len(blocks):
        end, cuts = start + 1, [0, len(owners[blocks[start]])]
        while end < len(blocks) and cuts[-1] + len(owners[blocks[end]]) <= _FEW_NUMBERS:
            cuts.append(cuts[-1] + len(owners[blocks[end]]))
            end += 1
        chosen = blocks[start:end]
        segment, first = owners[chosen[0]], firsts[chosen[0]]
        if len(chosen) > 1:
            blobs = counts.shape[1]
            segment = np.concatenate([owners[block] + place * blobs for place, block in enumerate(chosen)])
            first = (firsts[chosen] + np.array(cuts[:-1])[:, None]).ravel()
        yield Run(slice(start, end), cuts, segment, first)
        start = end


def one_by_one(start: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """(where each row's part of a blob lies, one after the other from `start` on; what lies behind the last)."""
    if len(sizes) == 1:
        return start[None], start + sizes[0]
    ends: Ints = start + np.cumsum(sizes, axis=0)
    return ends - sizes, ends[-1]
