import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.addresses import Address, reach_of, read_url


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("example.com", "public"), ("8.8.8.8", "public"), ("2606:4700::1111", "public"), ("10.example.com", "public"),
        ("localhost", "loopback"), ("LOCALHOST.", "loopback"), ("x.localhost", "loopback"), ("127.0.0.1", "loopback"), ("127.255.0.1", "loopback"),
        ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("2130706433", "loopback"), ("0x7f.1", "loopback"), ("127.1", "loopback"), ("0177.0.0.1", "loopback"),
        ("10.0.0.1", "private"), ("172.16.5.5", "private"), ("192.168.1.1", "private"), ("169.254.169.254", "private"), ("100.64.0.1", "private"), ("100.100.100.200", "private"),
        ("0.0.0.0", "private"), ("0", "private"), ("224.0.0.1", "private"), ("255.255.255.255", "private"), ("192.0.2.1", "private"),
        ("fe80::1", "private"), ("fe80::1%eth0", "private"), ("fd00::1", "private"), ("fd00:ec2::254", "private"), ("::", "private"), ("ff02::1", "private"),
        ("::ffff:169.254.169.254", "private"), ("64:ff9b::a9fe:a9fe", "private"), ("2002:a9fe:a9fe::1", "private"), ("::10.0.0.1", "private"),
        ("2852039166", "private"), ("0xa9fea9fe", "private"), ("0251.0376.0251.0376", "private"), ("10.1", "private"),
        ("metadata.google.internal", "private"), ("Metadata.Google.Internal.", "private"),
    ],
)  # fmt: skip
def test_hosts_lie_where_a_resolver_would_find_them(host: str, reach: str):
    assert reach_of(host) == reach


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://example.com", "https://", "https:///x", "http://[::1", "https://u:p@example.com", "https://u@example.com", "https://example.com/#x", "https://example.com#", "https://exa mple.com", "https://example.com\\@evil.com", "https://example.com:0", "https://example.com:99999", "https://example.com:x", " https://example.com", "https://ex\x00ample.com", "javascript:alert(1)", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_clean_http_url_is_refused_with_a_reason(url: str):
    reason = read_url(url)
    assert isinstance(reason, str)
    assert reason


def test_a_url_is_taken_apart():
    assert read_url("https://Example.com:8443/mcp?x=1") == Address("https", "example.com", "public", "/mcp")
    assert read_url("http://[::1]:5000") == Address("http", "::1", "loopback", "")


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_reason(text: str):
    for url in (text, f"https://{text}", f"http://[{text}]/"):
        assert isinstance(read_url(url), str | Address)
