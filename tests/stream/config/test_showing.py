import pytest

from stream.config.showing import without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://mlflow.shop/a?run=1", "https://mlflow.shop/a?run=1"),
        ("https://me:pw@mlflow.shop/a", "https://***@mlflow.shop/a"),
        ("https://token@mlflow.shop/a", "https://***@mlflow.shop/a"),
        ("https://me:p/w@x@mlflow.shop", "https://***@mlflow.shop"),
        ("https://h/?api_key=s3cret&b=1#token=t", "https://h/?api_key=***&b=1#token=***"),
        ("https://h/?X-Amz-Signature=abc", "https://h/?X-Amz-Signature=***"),
        ("me:pw@kafka:9092,kafka-2:9092", "***@kafka:9092,kafka-2:9092"),
        ("kafka-1:9092,kafka-2:9092", "kafka-1:9092,kafka-2:9092"),
        ("SASL_SSL://me:pw@kafka:9092", "SASL_SSL://***@kafka:9092"),
        ("https://me:p w@mlflow.shop/a", "https://***@mlflow.shop/a"),
        ("https://me:p,w\n@mlflow.shop", "https://***@mlflow.shop"),
        ("me:p,w@kafka:9092", "***@kafka:9092"),
        ("me:p w/@x@kafka:9092", "***@kafka:9092"),
        ("/srv/me@shop/var", "/srv/me@shop/var"),
    ],
)
def test_credentials_in_addresses_are_hidden(text, shown):
    assert without_credentials(text) == shown
    assert without_credentials({"a": [text]}) == {"a": [shown]}
