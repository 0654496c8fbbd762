"""What is predicted of which products: properties of skus, and the lists of 100 labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.encoding import category_code, item_code
from models.errors import EvaluationError
from models.evaluation.recsys2025.files import LISTS, PROPERTIES, Folder, batches, whole
from models.history import I64

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Products:
    """The S products, ascending by sku."""

    sku: I64
    """[S]."""
    category: I64
    """[S]."""
    item_code: NDArray[np.uint32]
    """[S] of the sku in the product's events."""
    category_code: NDArray[np.uint16]
    """[S] likewise."""

    @classmethod
    def of(cls, folder: Folder) -> Products:
        """Read the properties. A price is one of 100 buckets, not money, and is not read.

        Raises:
            EvaluationError: the file is damaged, of other columns, empty, or has a sku twice.
        """
        path = folder.path / PROPERTIES
        types = {"sku": "int64", "category": "int64", "price": "int64"}
        parts = [
            (whole(path, batch, "sku", 0), whole(path, batch, "category", 0))
            for batch in batches(path, ["sku", "category"], types)
        ]
        if not sum(len(sku) for sku, _ in parts):
            raise EvaluationError(f"{path}: no product in it; copy or download it again")
        sku, category = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        order = np.argsort(sku, kind="stable")
        sku, category = sku[order], category[order]
        twice = sku[1:][sku[1:] == sku[:-1]]
        if len(twice):
            raise EvaluationError(f"{path}: sku {twice[0]} is there twice; keep one row of each")
        groups, of = np.unique(category, return_inverse=True)
        codes = np.array([category_code(str(each)) for each in groups.tolist()], np.uint16)
        items = np.array([item_code(str(each)) for each in sku.tolist()], np.uint32)
        return cls(sku, category, items, codes[of])

    def place(self, sku_N: I64) -> Index:
        """[N] index of each sku, -1 where there is no such product."""
        at = np.minimum(np.searchsorted(self.sku, sku_N), len(self.sku) - 1)
        return np.where(self.sku[at] == sku_N, at, -1)


@dataclass(frozen=True)
class Labels:
    """The K labels of a propensity task."""

    names: I64
    """[K] categories or skus."""
    popularity: NDArray[np.float64]
    """[K] as the challenge gives it; only its proportions count."""

    @classmethod
    def of(cls, folder: Folder, name: str) -> Labels:
        """Read `target/NAME.npy` and its popularity.

        Raises:
            EvaluationError: they cannot be read, do not belong together, or a label comes twice.
        """
        path = folder.path / "target" / f"{name}.npy"
        names = folder.ids(f"target/{name}.npy")
        popularity = folder.numbers(f"target/popularity_{name}.npy").astype(np.float64)
        if len(popularity) != len(names):
            raise EvaluationError(
                f"{path}: {len(names)} labels, and popularity_{name}.npy has {len(popularity)} "
                "values; take both files from one release"
            )
        if len(np.unique(names)) < len(names) or len(names) == 1:
            raise EvaluationError(f"{path}: labels must be two or more, each once")
        if not (np.isfinite(popularity).all() and popularity.min() >= 0 and popularity.max() > 0):
            raise EvaluationError(
                f"{path.parent}/popularity_{name}.npy: popularities are 0 or more, not all 0"
            )
        return cls(names, popularity)

    def __len__(self) -> int:
        return len(self.names)

    def place(self, values_N: I64) -> NDArray[np.int16]:
        """[N] label of each category or sku, -1 for none."""
        order = np.argsort(self.names)
        at = np.minimum(np.searchsorted(self.names, values_N, sorter=order), len(order) - 1)
        found = order[at]
        return np.where(self.names[found] == values_N, found, -1).astype(np.int16)


@dataclass(frozen=True)
class Catalogue:
    """Products, and per product what it is a label of."""

    products: Products
    categories: Labels
    skus: Labels
    category_label: NDArray[np.int16]
    """[S] label of the product's category, -1 for none."""
    sku_label: NDArray[np.int16]
    """[S] label of the product, -1 for none."""
    group: NDArray[np.int16]
    """[S] number of the product's category among those of the labelled skus, -1 for none."""
    group_of_label: NDArray[np.int16]
    """[K] the same number per labelled sku, -1 where the sku has no properties."""

    @classmethod
    def of(cls, folder: Folder) -> Catalogue:
        """Read all of it.

        Raises:
            EvaluationError: see `Products.of`, `Labels.of`.
        """
        products = Products.of(folder)
        categories, skus = (Labels.of(folder, name) for name in LISTS)
        place = products.place(skus.names)
        known = np.unique(products.category[place[place >= 0]])
        at = np.minimum(np.searchsorted(known, products.category), max(len(known) - 1, 0))
        inside = known[at] == products.category if len(known) else np.zeros(len(at), np.bool_)
        group = np.where(inside, at, -1).astype(np.int16)
        return cls(
            products=products,
            categories=categories,
            skus=skus,
            category_label=categories.place(products.category),
            sku_label=skus.place(products.sku),
            group=group,
            group_of_label=np.where(place >= 0, group[place], -1).astype(np.int16),
        )
