"""Refuse every connection that leaves this machine. Each notebook kernel of the tests starts with this."""

import ipaddress
import socket


def is_here(host):
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_unless_here(host):
    if not is_here(host):
        raise ConnectionRefusedError(f"a chapter must run without the network, and this cell asks for {host}")


def guard(function, host_of):
    def guarded(*arguments, **options):
        refuse_unless_here(host_of(*arguments))
        return function(*arguments, **options)

    return guarded


def host_of_address(_socket, address):
    # An address that is a path belongs to a socket between processes of one machine.
    return address[0] if isinstance(address, tuple) else None


socket.getaddrinfo = guard(socket.getaddrinfo, lambda host=None, *_: host)
socket.socket.connect = guard(socket.socket.connect, host_of_address)
socket.socket.connect_ex = guard(socket.socket.connect_ex, host_of_address)
