"""Near-duplicates among prompts: embeddings, principal components, k-means, and cosine similarity inside each cluster.

Clusters bring similar prompts of different categories together, and only prompts of one cluster are compared, which
keeps comparisons few. Pairs are thinned out in order of similarity over all clusters, not cluster by cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optune.config import SyntheticConfig


def near_duplicates(texts: Sequence[str], settings: SyntheticConfig) -> set[int]:
    """Places in `texts` of near-duplicates of an earlier text: cosine similarity of at least `similarity`."""
    if len(texts) < 2:
        return set()
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in one order, whatever the machine
        vectors = embed(texts, settings.embedding)
        labels = clusters(vectors, settings.components, settings.clusters)
        pairs = similar_pairs(vectors, labels, settings.similarity)
    return later_of_each(pairs)


def embed(texts: Sequence[str], embedding: str) -> Any:
    """(n, d) vectors of length 1, sparse or dense: TF-IDF of words and pairs of words, or an encoder's mean state."""
    if embedding != "tfidf":
        return _encoded(texts, embedding)
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+").fit_transform(texts)


def clusters(vectors: Any, components: int, count: int) -> np.ndarray:
    """(n,) labels of k-means on the principal components; fewer of both where there are few prompts."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    kept = min(components, n - 1, d - 1)
    if kept >= 1:
        vectors = PCA(kept, svd_solver="arpack", random_state=0).fit_transform(vectors)
    distinct = len(np.unique(np.round(vectors, 6), axis=0)) if kept >= 1 else 1
    return KMeans(min(count, distinct), n_init=1, random_state=0).fit_predict(vectors)


def similar_pairs(vectors: Any, labels: np.ndarray, similarity: float) -> list[tuple[int, int]]:
    """(i, j), i < j, of one cluster and at least this similar; the most similar first, ties in order of i and j."""
    pairs: list[tuple[float, int, int]] = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        inside = vectors[places]
        product = inside @ inside.T
        cosines = np.round(product.toarray() if hasattr(product, "toarray") else np.asarray(product), 6)
        rows, columns = np.nonzero(np.triu(cosines >= similarity, k=1))
        pairs += [(-cosines[a, b], places[a], places[b]) for a, b in zip(rows, columns, strict=True)]
    return [(int(i), int(j)) for _, i, j in sorted(pairs)]


def later_of_each(pairs: Sequence[tuple[int, int]]) -> set[int]:
    """The later text of each pair, unless one of the two has already been left out."""
    gone: set[int] = set()
    for i, j in pairs:
        if i not in gone and j not in gone:
            gone.add(j)
    return gone


def _encoded(texts: Sequence[str], model: str) -> np.ndarray:
    import torch
    from transformers import AutoModel

    from optune.utils.checkpoints import load_model, load_tokenizer

    tokenizer = load_tokenizer(model)
    encoder = load_model(AutoModel, model, dtype="float32")
    rows = []
    for text in texts:  # one by one: padding would change an encoder's last digits
        ids = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")["input_ids"].to(encoder.device)
        with torch.inference_mode():
            rows.append(encoder(ids).last_hidden_state[0].mean(dim=0).float().cpu().numpy())
    vectors = np.stack(rows)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
