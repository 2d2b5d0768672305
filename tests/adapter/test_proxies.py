"""Which `X-Forwarded-For` is believed, and that nothing else ever comes of one."""

import ipaddress
from collections.abc import Sequence

import pytest
from gatewayproto_adapter.proxies import MAX_HOPS, UNIX, TrustedProxies, network_address
from hypothesis import given
from hypothesis import strategies as st

HEADER = "x-forwarded-for"
TRUSTED = ("10.0.0.0/8", "2001:db8:aa::/48", "192.0.2.7", UNIX)
PROXY = "10.0.0.1:4711"


def forwarded(*values: str) -> tuple[tuple[str, str], ...]:
    return (("host", "gateway.example"), *((HEADER, value) for value in values), ("origin", "x"))


def client(peer: str, *values: str, trusted: Sequence[str] = TRUSTED) -> str:
    return TrustedProxies(trusted).client(peer, forwarded(*values))


@pytest.mark.parametrize(
    ("peer", "values", "answer"),
    [
        # Nobody is trusted to speak for another unless it is said so.
        ("198.51.100.1:80", ["203.0.113.5"], "198.51.100.1:80"),
        ("[2001:db8:ab::1]:80", ["203.0.113.5"], "[2001:db8:ab::1]:80"),
        ("", ["203.0.113.5"], ""),
        # A trusted peer, in every form that has one.
        (PROXY, ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("192.0.2.7:1", ["203.0.113.5"], "203.0.113.5"),
        ("[::ffff:10.0.0.1]:4711", ["203.0.113.5"], "203.0.113.5"),
        ("[2001:db8:aa::1%eth0]:4711", ["203.0.113.5"], "203.0.113.5"),
        (UNIX, ["203.0.113.5"], "203.0.113.5"),
        (PROXY, [], PROXY),
        (PROXY, ["", " , ,"], PROXY),
        # From the right, over what is trusted, whatever the client wrote in front.
        (PROXY, ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
        (PROXY, ["1.1.1.1, 203.0.113.5, 10.2.3.4"], "203.0.113.5"),
        (PROXY, ["1.1.1.1", "203.0.113.5", "10.2.3.4,10.9.9.9"], "203.0.113.5"),
        (PROXY, ["203.0.113.5, unix:"], "203.0.113.5"),
        (PROXY, ["10.5.5.5, 10.2.3.4"], "10.5.5.5"),
        # Ports, brackets, mapped addresses, and one way to write each.
        (PROXY, ["203.0.113.5:5123"], "203.0.113.5"),
        (PROXY, ["[2001:DB8:0:0::5]:5123"], "2001:db8::5"),
        (PROXY, ["[2001:db8::5]"], "2001:db8::5"),
        (PROXY, ["2001:db8::5"], "2001:db8::5"),
        (PROXY, ["::ffff:203.0.113.5"], "203.0.113.5"),
        (PROXY, ["203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
        # Junk ends the search.
        (PROXY, ["203.0.113.5, unknown"], PROXY),
        (PROXY, ["203.0.113.5, unknown, 10.2.3.4"], "10.2.3.4"),
        (PROXY, ["203.0.113.5, 010.0.0.1"], PROXY),
        (PROXY, ["203.0.113.5:http"], PROXY),
        (PROXY, ["203.0.113.5:"], PROXY),
        (PROXY, ["[203.0.113.5]"], PROXY),
        (PROXY, ["[2001:db8::5"], PROXY),
        (PROXY, ["fe80::1%\x1b[2J"], PROXY),
        (PROXY, ["\xb2\xb2.1.1.1"], PROXY),
        (PROXY, ["9" * 10_000], PROXY),
    ],
)
def test_whom_a_request_came_from(peer: str, values: list[str], answer: str) -> None:
    assert client(peer, *values) == answer


def test_a_socket_s_peer_is_trusted_by_its_name_alone() -> None:
    assert client(UNIX, "203.0.113.5", trusted=["0.0.0.0/0", "::/0"]) == UNIX
    assert client("10.0.0.1:1", "203.0.113.5, unix:", trusted=["10.0.0.0/8"]) == "10.0.0.1:1"


def test_networks_of_mapped_addresses_are_networks_of_the_addresses() -> None:
    assert client("10.1.1.1:1", "203.0.113.5", trusted=["::ffff:10.0.0.0/104"]) == "203.0.113.5"
    assert client("11.1.1.1:1", "203.0.113.5", trusted=["::ffff:10.0.0.0/104"]) == "11.1.1.1:1"


def test_no_more_members_are_looked_at_than_there_can_be_proxies() -> None:
    hops = ["10.0.0.9"] * (MAX_HOPS - 1)
    assert client(PROXY, ", ".join(["203.0.113.5", *hops])) == "203.0.113.5"
    assert client(PROXY, ", ".join(["203.0.113.5", "10.0.0.9", *hops])) == "10.0.0.9"


@pytest.mark.parametrize(
    "name", ["", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "unix:", "10.0.0.1:80", "[::1]"]
)
def test_what_is_neither_address_nor_network_cannot_be_trusted(name: str) -> None:
    with pytest.raises(ValueError, match="no address, network or 'unix'"):
        TrustedProxies([name])


@pytest.mark.parametrize(
    ("of", "address"),
    [
        ("203.0.113.5:80", "203.0.113.5"),
        ("203.0.113.5", "203.0.113.5"),
        ("[2001:DB8::5]:80", "2001:db8::5"),
        ("[::ffff:203.0.113.5]:80", "203.0.113.5"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        (UNIX, ""),
        ("", ""),
        ("host:80", ""),
    ],
)
def test_the_address_that_a_client_is_counted_by_has_no_port(of: str, address: str) -> None:
    assert network_address(of) == address


# -- laws -----------------------------------------------------------------------------------------

addresses = st.one_of(
    st.ip_addresses().map(str),
    # Close to what is trusted, and in it.
    st.ip_addresses(network="10.0.0.0/7").map(str),
    st.ip_addresses(network="2001:db8:aa::/47").map(str),
)
junk = st.text(st.characters(max_codepoint=255, exclude_characters=","), max_size=80)
members = st.one_of(addresses, junk)
peers = st.one_of(
    addresses,
    addresses.map(lambda host: f"[{host}]:1" if ":" in host else f"{host}:1"),
    st.sampled_from(["", UNIX]),
    junk,
)


def is_normal(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def is_trusted(address: str) -> bool:
    value = ipaddress.ip_address(address)
    if isinstance(value, ipaddress.IPv6Address) and value.ipv4_mapped is not None:
        value = value.ipv4_mapped
    networks = [ipaddress.ip_network(name) for name in TRUSTED if name != UNIX]
    return any(value in network for network in networks)


@given(peers, st.lists(st.lists(members, max_size=4).map(",".join), max_size=3))
def test_the_answer_is_the_peer_or_an_address_in_one_way_of_writing(
    peer: str, values: list[str]
) -> None:
    answer = client(peer, *values)
    assert answer == peer or is_normal(answer)


@given(peers, st.lists(members, max_size=4), st.integers(0, 4))
def test_how_members_are_spread_over_headers_makes_no_difference(
    peer: str, given_members: list[str], cut: int
) -> None:
    spread = [",".join(given_members[:cut]), ",".join(given_members[cut:])]
    assert client(peer, *spread) == client(peer, ",".join(given_members))


@given(st.lists(members, max_size=5), addresses, st.lists(addresses.filter(is_trusted), max_size=4))
def test_what_a_client_writes_itself_never_matters(
    own: list[str], address: str, proxies: list[str]
) -> None:
    honest = client(PROXY, ",".join([address, *proxies]))
    if not is_trusted(address):
        assert client(PROXY, ",".join([*own, address, *proxies])) == honest
        assert is_normal(honest)
        assert not is_trusted(honest)


@given(peers, st.lists(members, max_size=4))
def test_where_nobody_is_trusted_the_header_says_nothing(peer: str, values: list[str]) -> None:
    assert TrustedProxies().client(peer, forwarded(*values)) == peer
